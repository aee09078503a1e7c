"""Torch towers on an image that is repeated for each prompt, in all the ways of repeating: image-only afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from support.sinking import session
from torch import nn

from mmedge.bundle import TensorSpec
from mmedge_export.graph.emit import StageWriter
from mmedge_export.graph.partition import partition
from mmedge_export.graph.prepare import prepare
from mmedge_export.graph.sinking import sink_broadcasts
from mmedge_export.graph.sizes import concrete_sizes

IMAGE = (1, 3, 8, 8)
MODALITIES = {"image": "image", "text": "text"}
Tensor = torch.Tensor

WAYS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "repeat": lambda x, n: x.repeat(n, 1, 1, 1),
    "expand": lambda x, n: x.expand(n, -1, -1, -1),
    "repeat_interleave": lambda x, n: x.repeat_interleave(n, 0),
    "index": lambda x, n: x[torch.zeros(n, dtype=torch.long)],
    "index_select": lambda x, n: x.index_select(0, torch.zeros(n, dtype=torch.long)),
    "tile": lambda x, n: x.tile((n, 1, 1, 1)),
    "a new axis": lambda x, n: x[:, None].expand(-1, n, -1, -1, -1).reshape(-1, *x.shape[1:]),
    "one picture of a batch": lambda x, n: x[0].unsqueeze(0).repeat(n, 1, 1, 1),
    "added zeros": lambda x, n: torch.zeros(n, 1, 1, 1) + x,
}
# A list of n tensors fixes n when it is traced.
LISTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "cat": lambda x, n: torch.cat([x] * n),
    "stack": lambda x, n: torch.stack([x[0]] * n),
}


class Transformer(nn.Module):
    """A patch embedding, a class token, one pre-norm block: as ViT, in width 8."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        self.before, self.after = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.project = nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        q, k, v = self.qkv(self.before(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        heads = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.project(heads.transpose(1, 2).flatten(2))
        return (x + self.mlp(self.after(x)))[:, 0]


class Convolutions(nn.Module):
    """A residual block between a stem and a mean, as ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.block(x))
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
        return nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)


class Joined(nn.Module):
    """Each way of repeating, the same tower, and the text of each row."""

    def __init__(self, tower: nn.Module, ways: list[Callable[[Tensor, int], Tensor]]) -> None:
        super().__init__()
        self.tower, self.ways = tower, ways
        self.words = nn.Linear(4, 8)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, ...]:
        words = torch.tanh(self.words(text))
        # Each way gets a picture of its own, or equal towers would be merged before there is anything to sink.
        pictures = [image * (1.0 + 0.1 * index) for index in range(len(self.ways))]
        copies = [way(picture, text.shape[0]) for way, picture in zip(self.ways, pictures, strict=True)]
        return tuple((self.tower(x) * words).sum(-1) for x in copies)


def _exported(model: nn.Module, dynamic: bool) -> ir.Model:
    axes = {"image": None, "text": {0: torch.export.Dim("n", min=1, max=64)}} if dynamic else None
    program = torch.onnx.export(
        model,
        (torch.randn(IMAGE), torch.randn(3, 4)),
        dynamo=True,
        input_names=["image", "text"],
        dynamic_shapes=axes,
        verbose=False,
    )
    assert program is not None
    prepare(program.model, [
        TensorSpec("image", "float32", IMAGE), TensorSpec("text", "float32", ("n" if dynamic else 3, 4)),
    ])  # fmt: skip
    return program.model


def _run_staged(model: ir.Model, feed: dict[str, Any], folder: Path) -> tuple[dict[str, int], list[Any]]:
    """The operations of each stage at the sizes of `feed`, and the outputs of the staged program."""
    plans = partition(model.graph, MODALITIES, concrete_sizes(model, feed), merge_below=0)
    folder.mkdir()
    writer, values = StageWriter(folder), dict(feed)
    for plan in plans:
        writer.write(model, plan, plan.name)
        runner = session(folder / f"{plan.name}.onnx")
        names = [str(value.name) for value in plan.outputs]
        values.update(
            zip(names, runner.run(names, {str(v.name): values[str(v.name)] for v in plan.inputs}), strict=True)
        )
    return {plan.name: plan.flops for plan in plans}, [values[str(value.name)] for value in model.graph.outputs]


@pytest.mark.parametrize("dynamic", [True, False], ids=["open n", "fixed n"])
@pytest.mark.parametrize(
    ("tower", "ways"),
    [(Convolutions, list(WAYS)), (Transformer, ["repeat_interleave", "index"])],
    ids=["convolutions", "transformer"],
)
def test_the_tower_becomes_image_only(tower: type[nn.Module], ways: list[str], dynamic: bool, tmp_path: Path) -> None:
    torch.manual_seed(7)
    chosen = {way: WAYS[way] for way in ways} | ({} if dynamic else LISTS)
    source = Joined(tower(), list(chosen.values())).eval()
    model = _exported(source, dynamic)
    records = sink_broadcasts(model)
    assert all(record.crossed for record in records)
    assert {stop.op_type for record in records for stop in record.stops} == {"Mul"}
    once = None
    for n in (1, 4) if dynamic else (3,):
        image, text = torch.randn(IMAGE), torch.randn(n, 4)
        feed = {"image": image.numpy(), "text": text.numpy()}
        flops, outputs = _run_staged(model, feed, tmp_path / str(n))
        assert set(flops) == {"image", "text", "image+text"}
        once = once or flops["image"]
        assert flops["image"] == once
        assert flops["image+text"] == 2 * 8 * n * len(chosen)
        with torch.no_grad():
            expected = source(image, text)
        for way, want, got in zip(chosen, expected, outputs, strict=True):
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-5, err_msg=way)
