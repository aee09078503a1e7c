"""A small image-and-text model as an ONNX file, with parts that can be made hard to round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from tokenizers import Tokenizer, models, pre_tokenizers

import mmedge_export as mx

WORDS = ["[PAD]", "[UNK]", "red", "blue", "cube", "ball", "the", "a"]
WIDTH = 64

GRAPH = """<ir_version: 9, opset_import: ["" : 20]>
tower (float[1,3,32,32] pixels, int64[n,l] ids, int64[n,l] mask) => (float[1,n] logits, float[1,64] seen)
<int64[3] flat = {1, 64, 16}, int64[1] middle = {1}, int64[1] last = {-1}, float scale = {0.05}>
{
  patches = Conv<kernel_shape = [8, 8], strides = [8, 8]>(pixels, patch)
  rows = Reshape(patches, flat)
  tokens = Transpose<perm = [0, 2, 1]>(rows)
  loud = Mul(tokens, gains)
  up = MatMul(loud, w1)
  shifted = Add(up, b1)
  active = Relu(shifted)
  down = MatMul(active, w2)
  stream = Add(loud, down)
  NORM
  head = MatMul(normal, w3)
  seen = ReduceMean<keepdims = 0>(head, middle)
  said = Gather(table, ids)
  weights = Cast<to = 1>(mask)
  columns = Unsqueeze(weights, last)
  kept = Mul(said, columns)
  text = ReduceSum<keepdims = 0>(kept, middle)
  turned = Transpose<perm = [1, 0]>(text)
  product = MatMul(seen, turned)
  logits = Mul(product, scale)
}"""


NORM = "normal = LayerNormalization<axis = -1>(stream, ones)"
PARTS = """mean = ReduceMean(stream, last) apart = Sub(stream, mean) squares = Mul(apart, apart)
  variance = ReduceMean(squares, last) root = Sqrt(variance) quotient = Div(apart, root) normal = Mul(quotient, ones)"""


def write_tower(
    path: Path, *, gains: float = 1.0, outlier: float = 1.0, blind: bool = False, spelled: bool = False
) -> Path:
    """Write the model.

    Args:
        gains: Size of the residual stream: beyond 65504 it leaves the range of float16, and the norm behind it makes
            up for it.
        outlier: Size of one channel of the stream, which the next product does not read.
        blind: The image has no influence.
        spelled: The norm is written out in parts.
    """
    random = np.random.default_rng(5)
    each = np.full(WIDTH, gains)
    each[0] *= outlier
    shapes = {"patch": (WIDTH, 3, 8, 8), "w1": (WIDTH, 128), "w2": (128, WIDTH), "w3": (WIDTH, WIDTH)}
    arrays: dict[str, Any] = {
        name: random.standard_normal(shape) / np.sqrt(np.prod(shape[1:] if name == "patch" else shape[:1]))
        for name, shape in shapes.items()
    }
    arrays["w1"] *= (each[:, None] == gains) / gains
    arrays["w2"] *= gains
    arrays |= {"gains": each, "ones": np.ones(WIDTH), "b1": random.standard_normal(128)}
    arrays["table"] = random.standard_normal((len(WORDS), WIDTH))
    if blind:
        arrays["w3"] *= 0
        arrays["ones"] *= 0
    model = onnx.parser.parse_model(GRAPH.replace("NORM", PARTS if spelled else NORM))
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, np.float32), name))
    onnx.save(model, path)
    return path


def declared() -> dict[str, Any]:
    """Its inputs."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return {
        "image": mx.Image(size=(32, 32), name="pixels", resize="stretch", crop="none", interpolation="bilinear"),
        "text": mx.Text(str(words.to_str()), max_length=8, ids="ids", mask="mask"),
    }


def export_tower(out: Path, precision: str, options: mx.Options | None = None, **parts: Any) -> mx.Report:
    """Export it as a classifier; `parts` as for `write_tower`."""
    source = write_tower(out.with_suffix(".onnx"), **parts)
    task = mx.Classify("logits", image_embedding="seen")
    return mx.export_onnx(source, inputs=declared(), task=task, out=out, precision=precision, options=options)
