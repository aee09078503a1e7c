"""Tiny bundles whose answers are known by heart.

The colour model says which of the words red, green and blue fits a frame: its image stage is the mean of each channel,
its text stage looks words up in a table, and its joint stage multiplies the two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from mmedge.bundle import (
    Classify,
    Cost,
    Form,
    Golden,
    ImageInput,
    Input,
    Manifest,
    Stage,
    Task,
    TensorSpec,
    TextInput,
    Variant,
    publish,
    seal,
    staging,
    write_goldens,
)
from mmedge.bundle.writer import file_entries

Array = np.ndarray[Any, np.dtype[Any]]

HEADER = '<ir_version: 9, opset_import: ["" : 20]>\n'

WORDS = ("[PAD]", "[UNK]", "[END]", "red", "green", "blue", "a", "thing")
COLORS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}
"""BGR of the colours that the model knows."""

IMAGE = """
image (float[1, 3, 8, 8] pixels) => (float[1, 3] image_vec) {
  pooled = GlobalAveragePool(pixels)
  image_vec = Flatten(pooled)
}
"""
TEXT = """
text (int64[n, l] input_ids, int64[n, l] attention_mask) => (float[n, 3] text_vec)
<float[8, 3] table = {0,0,0, 0,0,0, 0,0,0, 8,0,0, 0,8,0, 0,0,8, 0,0,0, 1,1,1},
 int64[1] last = {2}, int64[1] mid = {1}> {
  rows = Gather(table, input_ids)
  weights = Cast<to = 1>(attention_mask)
  columns = Unsqueeze(weights, last)
  kept = Mul(rows, columns)
  text_vec = ReduceSum<keepdims = 0>(kept, mid)
}
"""
JOINT = """
joint (float[1, 3] image_vec, float[n, 3] text_vec) => (float[1, n] logits) {
  turned = Transpose<perm = [1, 0]>(text_vec)
  logits = MatMul(image_vec, turned)
}
"""
SEVERAL_IMAGE = IMAGE.replace("[1, 3, 8, 8]", "[frames, 3, 8, 8]").replace("[1, 3]", "[frames, 3]")
"""For several frames at once."""
COLOR_STAGES = {"image": IMAGE, "text": TEXT, "image+text": JOINT}

IMAGE_INPUT = ImageInput(TensorSpec("pixels", "float32", (1, 3, 8, 8)), (8, 8), interpolation="bilinear")
SEVERAL_INPUT = replace(IMAGE_INPUT, tensor=TensorSpec("pixels", "float32", ("frames", 3, 8, 8)))
TEXT_INPUT = TextInput(
    TensorSpec("input_ids", "int64", ("n", "l")),
    TensorSpec("attention_mask", "int64", ("n", "l")),
    max_length=6,
    pad_id=0,
    vocab_size=len(WORDS),
)


def parse(text: str) -> onnx.ModelProto:
    """An ONNX model from its text form."""
    model = onnx.parser.parse_model(HEADER + text)
    onnx.checker.check_model(model)
    return model


def word_tokenizer(words: Sequence[str] = WORDS, *, end: str | None = "[END]") -> bytes:
    """A tokenizer.json that knows whole words and ends each prompt with `end`."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    if end is not None:
        tokenizer.post_processor = TemplateProcessing(
            single=f"$A {end}", pair=None, special_tokens=[(end, words.index(end))]
        )
    return tokenizer.to_str().encode()


def frame_of(color: str, height: int = 48, width: int = 64) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A frame, uint8 [height, width, 3], BGR, of one colour."""
    return np.full((height, width, 3), COLORS[color], np.uint8)


def color_goldens() -> list[Golden]:
    """Two samples of the colour model, computed by hand."""
    samples = []
    for color, prompts in (("red", ("red", "blue thing")), ("green", ("a green thing", "blue", "red"))):
        frame = frame_of(color)
        pixels = np.zeros((1, 3, 8, 8), np.float32)
        channel = list(COLORS).index(color)
        pixels[0, channel] = 1.0
        rows = [[WORDS.index(word) for word in prompt.split()] + [2] for prompt in prompts]
        length = max(map(len, rows))
        ids = np.array([row + [0] * (length - len(row)) for row in rows])
        mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        logits = [[8.0 * (color in prompt.split()) + ("thing" in prompt.split()) for prompt in prompts]]
        inputs = {"pixels": pixels, "input_ids": ids, "attention_mask": mask}
        samples.append(Golden(inputs, {"logits": np.array(logits, np.float32)}, frame, prompts))
    return samples


def write_bundle(
    out: Path,
    stages: Mapping[str, str] | None = None,
    *,
    inputs: Mapping[str, Input] | None = None,
    outputs: Sequence[str] = ("logits",),
    task: Task | None = None,
    goldens: Sequence[Golden] | None = None,
    tokenizer: bytes | None = None,
    verified: bool = True,
    external: bool = False,
    form: str = "zip",
    forms: Mapping[str, Form] | None = None,
) -> Path:
    """Write a bundle; without arguments, that of the colour model.

    Args:
        stages: Stage name -> the text of its graph. The name is the label with + between, ``constants`` for none; what
            follows a dot tells stages of one label apart.
        external: Weights lie in .bin files beside the graphs.
        form: ``zip`` or ``folder``.
        forms: Forms of the program; a stage belongs to the one that its name ends in after the dot.
    """
    stages = COLOR_STAGES if stages is None else stages
    inputs = {"image": IMAGE_INPUT, "text": TEXT_INPUT} if inputs is None else inputs
    with staging(out) as folder:
        (folder / "stages").mkdir()
        specs = tuple(_write_stage(folder, name, text, external, forms or {}) for name, text in stages.items())
        if any(isinstance(contract, TextInput) for contract in inputs.values()):
            (folder / "tokenizer.json").write_bytes(word_tokenizer() if tokenizer is None else tokenizer)
        samples = color_goldens() if goldens is None and stages is COLOR_STAGES else goldens or ()
        if samples:
            (folder / "goldens.npz").write_bytes(write_goldens(samples))
        made = {tensor.name: tensor for contract in inputs.values() for tensor in contract.tensors}
        made.update({tensor.name: tensor for spec in specs for tensor in (*spec.inputs, *spec.outputs)})
        manifest = Manifest(
            name="tiny",
            version="1",
            created="2026-01-01T00:00:00Z",
            producer="tests",
            license="Apache-2.0",
            source={"framework": "onnx"},
            task=Classify("logits") if task is None else task,
            inputs=inputs,
            outputs=tuple(made[name] for name in outputs),
            stages=specs,
            variants={"fp32": Variant(verified, 1e-5, {})},
            files=file_entries(folder),
            forms=forms or {},
        )
        seal(folder, manifest)
        publish(folder, out, form=form)
    return out


def _write_stage(folder: Path, name: str, text: str, external: bool, forms: Mapping[str, Form]) -> Stage:
    model = parse(text)
    path = f"stages/{name}.onnx"
    if external:
        for tensor in model.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
        onnx.save(model, folder / path, save_as_external_data=True, location=f"{name}.bin", size_threshold=64)
    else:
        onnx.save(model, folder / path)
    return Stage(
        name=name,
        label=() if name == "constants" else tuple(sorted(name.partition(".")[0].split("+"))),
        files={"fp32": path},
        inputs=tuple(_spec(value) for value in model.graph.input),
        outputs=tuple(_spec(value) for value in model.graph.output),
        cost=Cost(0, 0),
        form=tail if (tail := name.partition(".")[2]) in forms else None,
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return TensorSpec(value.name, dtype, tuple(d.dim_param or d.dim_value for d in kind.shape.dim))


def signed(manifest: Any) -> str:
    """A manifest as JSON with the digest that belongs to it, as somebody who changes one on purpose would write it."""
    if not isinstance(manifest, dict):
        return json.dumps(manifest)
    value = {key: item for key, item in manifest.items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
    return json.dumps({**value, "digest": digest})
