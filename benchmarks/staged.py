"""What the stage partition saves: a frame through the stages against the whole graph, same engine, same threads.

    python benchmarks/staged.py [--rounds 15] [--threads 2] [--json out.json]

CLIP ViT-B/32 with random weights, 8 prompts of 16 tokens. Rounds are interleaved, so that a machine whose speed drifts
slows both alike, with a pause before each run; the figure is the median of the per-round ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel

import mmedge
import mmedge_export as mx
from mmedge_export.adapters.clip import ClipModule
from mmedge_export.capture import TorchSource

PROMPTS, TOKENS, EOS = 8, 16, 49407
PAUSE_S = 0.1


def word_tokenizer(size: int) -> str:
    """A tokenizer whose words are w0, w1, ...: prompts of an exact length, with CLIP's end token."""
    vocabulary = {f"w{i}": i for i in range(size - 1)} | {"<end>": EOS}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", EOS)])
    return str(tokenizer.to_str())


def build(folder: Path) -> tuple[mx.Report, Path]:
    """Export CLIP as a bundle, and whole as one ONNX file."""
    torch.manual_seed(0)
    config = CLIPConfig(text_config={"eos_token_id": EOS}, vision_config={"patch_size": 32})
    module = ClipModule(CLIPModel(config), scores=True)
    inputs: dict[str, mx.Image | mx.Text] = {
        "image": mx.Image(size=(224, 224)),
        "text": mx.Text(word_tokenizer(49408), max_length=77, pad_id=EOS),
    }
    words = [" ".join(f"w{17 * i + j}" for j in range(1, TOKENS)) for i in range(PROMPTS)]
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    options = mx.Options(samples=[mx.Sample(frame, tuple(words))], form="folder", progress=False)
    task = mx.Classify("logits", "softmax", "image_embedding", "text_embedding")
    report = mx.export(module, inputs=inputs, task=task, out=folder / "clip", options=options)
    source = TorchSource(module)
    specs = [spec for declared in inputs.values() for spec in declared.contract.tensors]
    whole = source.to_onnx(folder / "whole.onnx", specs, [sample(np.random.default_rng(1))])
    return report, whole


def sample(random: np.random.Generator) -> dict[str, np.ndarray]:
    ids = random.integers(1, EOS, (PROMPTS, TOKENS))
    ids[:, -1] = EOS
    pixels = random.standard_normal((1, 3, 224, 224)).astype(np.float32)
    return {"pixel_values": pixels, "input_ids": ids, "attention_mask": np.ones_like(ids)}


def seconds(call: Callable[[], object]) -> float:
    # The threads of the other session go on spinning after its run and would be measured along.
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(model: mmedge.Model, whole: onnxruntime.InferenceSession, rounds: int) -> dict[str, float | int]:
    """Interleaved rounds: the whole graph on prepared tensors, and the staged model from the camera frame on."""
    random = np.random.default_rng(2)
    model.set_text([" ".join(f"w{17 * i + j}" for j in range(1, TOKENS)) for i in range(PROMPTS)])
    before = model.stats()["text"]["runs"]
    pairs: list[tuple[float, float]] = []
    for _ in range(rounds + 2):
        tensors = sample(random)
        frame = random.integers(0, 256, (480, 640, 3), dtype=np.uint8)
        pairs.append((seconds(partial(whole.run, None, tensors)), seconds(partial(model, frame))))
    counted = pairs[2:]
    return {
        "whole_ms": round(1000 * statistics.median(w for w, _ in counted), 2),
        "staged_frame_ms": round(1000 * statistics.median(s for _, s in counted), 2),
        "ratio": round(statistics.median(s / w for w, s in counted), 3),
        "ratio_min": round(min(s / w for w, s in counted), 3),
        "ratio_max": round(max(s / w for w, s in counted), 3),
        "text_stage_runs_after_set_text": model.stats()["text"]["runs"] - before,
        "frames": len(pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report, whole_file = build(Path(temporary))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = arguments.threads
        whole = onnxruntime.InferenceSession(whole_file, options, providers=["CPUExecutionProvider"])
        with mmedge.load(report.path, threads=arguments.threads) as model:
            measured = measure(model, whole, arguments.rounds)
    versions = {"onnxruntime": onnxruntime.__version__, "machine": platform.machine(), "threads": arguments.threads}
    case = {
        "case": "clip-vit-b32, 8 prompts of 16 tokens",
        "stages": [list(stage.label) for stage in report.manifest.stages],
        "relative_error_against_torch": report.verification.errors,
    }
    text = json.dumps({**case, **measured, **versions}, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
