"""Everything that the CLIP benchmark compares, written to one folder beforehand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging as transformers_logging

import mmedge_export as mx
from contenders.clip_models import PROMPTS, Files
from mmedge_export.capture import TorchSource
from mmedge_export.precision import VARIANTS
from mmedge_export.samples import sample_tensors

SIZE = (1920, 1080)
COSINE = 0.9995
"""Of every output to torch in float32, which a variant that rounds must reach on the bundle's few samples to be kept.
Half the distance of the goal of 0.999: a variant at 0.9990 on the samples had 0.9989 on other frames of the clip."""


class Tower(torch.nn.Module):
    """The image half as people cut it out: pixel_values [1, 3, 224, 224] → its embedding [1, d], of length 1."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.vision, self.projection = clip.vision_model, clip.visual_projection

    def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        projected = self.projection(self.vision(pixel_values=pixel_values).pooler_output)
        return {"image_embedding": projected / projected.norm(dim=-1, keepdim=True)}


def prepare(folder: Path, threads: int, *, quick: bool) -> Files:
    """Write the checkpoint, the ONNX files, the bundle and the frames."""
    hf_logging: Any = transformers_logging
    hf_logging.disable_progress_bar()
    clip = write_frames(folder / "frames.npy", 8 if quick else 32)
    write_checkpoint(folder / "hf", small=quick)
    module, inputs, task = mx.from_pretrained(folder / "hf")
    frames = np.load(folder / "frames.npy", mmap_mode="r")
    write_onnx(folder, module, inputs, frames[0])
    chosen = np.linspace(0, len(frames) - 1, 4).astype(int)
    samples = [mx.Sample(np.array(frames[i]), PROMPTS[: 8 - 2 * k]) for k, i in enumerate(chosen)]
    limits = {name: {"cosine": COSINE, "top1": 1.0} for name in VARIANTS if name != "fp32"}
    options = mx.Options(samples=samples, limits=limits, threads=threads, form="folder", progress=False)
    precision = "fp32" if quick else "auto"
    mx.export(module, inputs=inputs, task=task, out=folder / "clip.mmedge", precision=precision, options=options)
    return Files(folder, threads, clip)


def write_frames(out: Path, count: int) -> str | None:
    """Frames of a real clip at 1080p; made up where there is none. The name of the clip, or None."""
    named = os.environ.get("MMEDGE_TEST_DATA")
    data = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    clips = sorted((data / "video").glob("*.mp4"))
    frames: list[NDArray[Any]] = []
    if clips:
        reader = cv2.VideoCapture(str(clips[0]))
        while len(frames) < count and (read := reader.read())[0]:
            frames.append(cv2.resize(read[1], SIZE, interpolation=cv2.INTER_LINEAR))
            for _ in range(4):
                reader.grab()
        reader.release()
    source = clips[0].name if frames else None
    if not frames:
        random = np.random.default_rng(0)
        small = [random.integers(0, 256, (27, 48, 3), dtype=np.uint8) for _ in range(count)]
        frames = [cv2.resize(frame, SIZE, interpolation=cv2.INTER_CUBIC) for frame in small]
    np.save(out, np.stack(frames))
    return source


def write_checkpoint(folder: Path, *, small: bool) -> None:
    """CLIP ViT-B/32 with random weights, CLIP's tokenizer where it is at hand, and its preprocessor."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    text: dict[str, Any] = {"vocab_size": max(49408, len(tokenizer)), "eos_token_id": tokenizer.eos_token_id}
    vision: dict[str, Any] = {"patch_size": 32}
    if small:
        for part in (text, vision):
            part |= {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)


def _tokenizer() -> CLIPTokenizer:
    named = os.environ.get("MMEDGE_TEST_DATA")
    data = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    files = data / "tokenizers" / "clip"
    if (files / "vocab.json").is_file():
        return CLIPTokenizer(vocab=str(files / "vocab.json"), merges=str(files / "merges.txt"))
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])


def write_onnx(folder: Path, module: torch.nn.Module, inputs: dict[str, Any], frame: NDArray[Any]) -> None:
    """The whole graph, the tower alone, its dynamic int8 form, and the text features that go with it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    tensors = sample_tensors(inputs, mx.Sample(np.array(frame), PROMPTS))
    specs = [spec for declared in inputs.values() for spec in declared.contract.tensors]
    TorchSource(module).to_onnx(folder / "whole.onnx", specs, [tensors])
    clip: Any = module.clip
    pixels = inputs["image"].contract.tensors
    TorchSource(Tower(clip)).to_onnx(folder / "tower.onnx", pixels, [{"pixel_values": tensors["pixel_values"]}])
    quantize_dynamic(
        folder / "tower.onnx", folder / "tower-int8.onnx", op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True, weight_type=QuantType.QInt8,
    )  # fmt: skip
    text = TorchSource(module).run(tensors)["text_embedding"]
    scale = float(clip.logit_scale.detach().exp())
    ids, mask = tensors["input_ids"], tensors["attention_mask"]
    np.savez(folder / "text.npz", features=text, scale=scale, input_ids=ids, attention_mask=mask)
