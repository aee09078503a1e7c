"""The ways to run CLIP that are compared. Each takes a frame (uint8 [H, W, 3], BGR) to the scores of eight prompts.

Each is prepared as its own documentation does it, and imports nothing that it does not need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contenders.turns import Floats, Frame

PROMPTS = (
    "a person at the front door",
    "a parcel on the step",
    "a dog in the garden",
    "an empty parking space",
    "a bottle on a conveyor belt",
    "two people riding bicycles",
    "a car in the driveway",
    "an open window at night",
)
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)

Pixels = Callable[[Frame], Floats]
"""A frame to pixel_values [1, 3, 224, 224]."""
Network = Callable[[Floats], tuple[Floats, Floats]]
"""pixel_values to the image's embedding [d] and the scores [8]."""


@dataclass(frozen=True)
class Files:
    """The folder and what a contender is told about it.

    Attributes:
        folder: With ``hf``, ``whole.onnx``, ``tower.onnx``, ``tower-int8.onnx``, ``text.npz``, ``clip.mmedge`` and
            ``frames.npy``.
        threads: Of the processor.
        clip: Name of the clip that the frames come from; None: they are made up.
    """

    folder: Path
    threads: int
    clip: str | None

    def __truediv__(self, name: str) -> str:
        return str(self.folder / name)


class Way:
    """Preparation, then network; `says` tells of both."""

    def __init__(self, pixels: Pixels, network: Network, says: str) -> None:
        self._pixels, self._network, self.says = pixels, network, says
        self.scores = np.zeros(len(PROMPTS), np.float32)

    def __call__(self, frame: Frame) -> Floats:
        embedding, self.scores = self._network(self._pixels(frame))
        return embedding


def softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max())
    return np.asarray(raised / raised.sum(), np.float32)


def processor_pixels(files: Files) -> Pixels:
    """The image processor of transformers, numpy out."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil.from_pretrained(files / "hf", local_files_only=True)

    def pixels(frame: Frame) -> Floats:
        rgb = np.ascontiguousarray(frame[:, :, ::-1])
        given = processor(images=[rgb], input_data_format="channels_last", return_tensors="np")["pixel_values"]
        return np.asarray(given, np.float32)

    return pixels


def pillow_pixels(_: Files) -> Pixels:
    """Pillow resizes, numpy does the rest, as in hand-written deployments."""
    from PIL import Image

    def pixels(frame: Frame) -> Floats:
        picture = Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1]))
        width, height = picture.size
        short = min(width, height)
        size = (int(224 * width / short), int(224 * height / short))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
        array = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32) / 255
        return np.ascontiguousarray(((array - MEAN) / STD).transpose(2, 0, 1)[None])

    return pixels


def our_pixels(files: Files) -> Pixels:
    """mmedge's frame path, so that the networks alone can be compared."""
    from mmedge_kernels.frame import FrameSettings, plan_frame

    settings = FrameSettings(size=(224, 224), color="bgr", mean=tuple(MEAN.tolist()), std=tuple(STD.tolist()))

    def pixels(frame: Frame) -> Floats:
        return np.asarray(plan_frame(settings, *frame.shape[:2])(frame, threads=files.threads))

    return pixels


def transformers_eager(files: Files) -> Way:
    """Processor and model on picture and words, for each frame, as the model's page shows it."""
    return _transformers(files, keep_text=False, compile_model=False)


def transformers_text_kept(files: Files) -> Way:
    """The same with the text features computed once."""
    return _transformers(files, keep_text=True, compile_model=False)


def transformers_compiled(files: Files) -> Way:
    """The same under `torch.compile`."""
    return _transformers(files, keep_text=False, compile_model=True)


def _transformers(files: Files, *, keep_text: bool, compile_model: bool) -> Way:
    import torch
    from transformers import CLIPModel, CLIPProcessor, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.utils import logging as transformers_logging

    hf_logging: Any = transformers_logging
    hf_logging.disable_progress_bar()
    torch.set_num_threads(files.threads)
    loaded: Any = CLIPModel
    clip: Any = loaded.from_pretrained(files / "hf", local_files_only=True).eval()
    images = CLIPImageProcessorPil.from_pretrained(files / "hf", local_files_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(files / "hf", local_files_only=True)
    pair: Any = CLIPProcessor
    processor = pair(images, tokenizer)
    run = torch.compile(clip) if compile_model else clip
    features = torch.from_numpy(np.load(files / "text.npz")["features"])
    scale = clip.logit_scale.exp()

    def whole(rgb: Any) -> tuple[Floats, Floats]:
        inputs = processor(text=list(PROMPTS), images=[rgb], return_tensors="pt", padding=True)
        with torch.no_grad():
            out = run(**inputs)
            return out.image_embeds[0].numpy(), out.logits_per_image.softmax(dim=1)[0].numpy()

    def image_only(rgb: Any) -> tuple[Floats, Floats]:
        inputs = processor(images=[rgb], return_tensors="pt")
        with torch.no_grad():
            projected = clip.visual_projection(clip.vision_model(**inputs).pooler_output)
            embedding = projected / projected.norm(dim=-1, keepdim=True)
            return embedding[0].numpy(), (scale * embedding @ features.T).softmax(dim=1)[0].numpy()

    says = f"torch {torch.__version__}, {torch.get_num_threads()} threads, transformers' processor"
    return Way(lambda frame: np.ascontiguousarray(frame[:, :, ::-1]), image_only if keep_text else whole, says)


def onnxruntime_whole(files: Files) -> Way:
    """The whole graph with ONNX Runtime; tokens made once, transformers' image processor."""
    run, says = _onnxruntime(files, "whole.onnx")
    return Way(processor_pixels(files), _whole(files, run), f"{says}, transformers' processor")


def openvino_whole(files: Files) -> Way:
    """The whole graph with OpenVINO as it comes: bf16 where the processor has it."""
    run, says = _openvino(files, "whole.onnx", None)
    return Way(processor_pixels(files), _whole(files, run), f"{says}, transformers' processor")


def openvino_whole_fp32(files: Files) -> Way:
    """The same held to float32."""
    run, says = _openvino(files, "whole.onnx", "f32")
    return Way(processor_pixels(files), _whole(files, run), f"{says}, transformers' processor")


def _whole(files: Files, run: Callable[[dict[str, Any]], dict[str, Any]]) -> Network:
    kept = np.load(files / "text.npz")
    tokens = {name: kept[name] for name in ("input_ids", "attention_mask")}

    def network(pixels: Floats) -> tuple[Floats, Floats]:
        out = run({"pixel_values": pixels, **tokens})
        return out["image_embedding"][0], softmax(out["logits"][0])

    return network


def split(engine: str, precision: str, preparation: str) -> Callable[[Files], Way]:
    """The image tower cut out by hand, the text features kept as an array.

    Args:
        engine: ``onnxruntime`` or ``openvino``.
        precision: ``fp32``, ``int8`` or ``bf16``.
        preparation: ``pillow`` or ``mmedge``.
    """

    def make(files: Files) -> Way:
        file = "tower-int8.onnx" if precision == "int8" else "tower.onnx"
        hint = {"fp32": "f32", "bf16": "bf16"}.get(precision)
        run, says = _onnxruntime(files, file) if engine == "onnxruntime" else _openvino(files, file, hint)
        pixels = pillow_pixels(files) if preparation == "pillow" else our_pixels(files)
        kept = np.load(files / "text.npz")
        features, scale = kept["features"].T, float(kept["scale"])

        def network(given: Floats) -> tuple[Floats, Floats]:
            embedding = run({"pixel_values": given})["image_embedding"]
            return embedding[0], softmax(scale * (embedding @ features)[0])

        return Way(pixels, network, f"{says}, {'Pillow and numpy' if preparation == 'pillow' else 'our frame path'}")

    return make


def _onnxruntime(files: Files, name: str) -> tuple[Callable[[dict[str, Any]], dict[str, Any]], str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = files.threads
    session = onnxruntime.InferenceSession(files / name, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    says = f"onnxruntime {onnxruntime.__version__}, {files.threads} threads"
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True)), says


def _openvino(files: Files, name: str, hint: str | None) -> tuple[Callable[[dict[str, Any]], dict[str, Any]], str]:
    import openvino

    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": files.threads}
    if hint is not None:
        config["INFERENCE_PRECISION_HINT"] = hint
    compiled = openvino.Core().compile_model(files / name, "CPU", config)
    request = compiled.create_infer_request()
    names = [value.get_any_name() for value in compiled.outputs]

    def run(feeds: dict[str, Any]) -> dict[str, Any]:
        result = request.infer(feeds)
        return {name: result[compiled.output(name)] for name in names}

    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return run, f"openvino {openvino.__version__.split('-')[0]} {precision}, {files.threads} threads"


class Mmedge:
    """The bundle, everything left to mmedge."""

    def __init__(self, files: Files) -> None:
        import mmedge

        self.model = mmedge.load(files / "clip.mmedge", threads=files.threads)
        self.model.set_text(PROMPTS)
        info = self.model.info()
        stages = ", ".join(f"{stage['name']}: {stage['engine']}" for stage in info["stages"])
        self.says = f"{info['precision']}; {stages}; {files.threads} threads"

    def __call__(self, frame: Frame) -> Floats:
        result: Any = self.model(frame)
        return np.asarray(result.image_embedding).reshape(-1)


split_onnxruntime_fp32 = split("onnxruntime", "fp32", "pillow")
split_onnxruntime_int8 = split("onnxruntime", "int8", "pillow")
split_openvino_fp32 = split("openvino", "fp32", "pillow")
split_openvino_bf16 = split("openvino", "bf16", "pillow")
split_onnxruntime_fp32_our_frames = split("onnxruntime", "fp32", "mmedge")
split_openvino_fp32_our_frames = split("openvino", "fp32", "mmedge")
split_openvino_bf16_our_frames = split("openvino", "bf16", "mmedge")
