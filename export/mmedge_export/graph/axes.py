"""Name open axes: which axes of inner values follow which axis of the inputs.

Symbolic shape inference loses names at reshapes. Inference with numbers does not: an axis that has the size of input
axis ``n`` under three unlike choices of sizes is ``n``. The choices differ in order and reach, so that neither a
maximum of two axes nor a cut at a fixed length passes for one. Requires: a prepared graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from mmedge.bundle import Input, TextInput
from mmedge_export.graph.sizes import Sizes, concrete_sizes

_SMALL = (5, 7, 11, 13, 17, 19)
_LARGE = (97, 101, 103, 107, 109, 113)


def prompt_lengths(inputs: Mapping[str, Input]) -> dict[str, int]:
    """The largest size of each named axis that counts the tokens of a prompt."""
    return {
        axis: contract.max_length
        for contract in inputs.values()
        if isinstance(contract, TextInput)
        for axis in contract.ids.shape[1:]
        if isinstance(axis, str)
    }


def name_axes(model: ir.Model, limits: Mapping[str, int]) -> None:
    """Write the names of input axes on the unnamed axes that follow them, in place.

    Args:
        limits: The largest size of an axis, where there is one: the longest prompt, for one.
    """
    names = _open_axes(model.graph)
    if not names or len(names) > len(_SMALL):
        return
    large = [min(size, limits.get(name, size)) for name, size in zip(names, _LARGE, strict=False)]
    choices = (_SMALL[: len(names)], _SMALL[: len(names)][::-1] if len(names) > 1 else _SMALL[1:2], large)
    bindings = [dict(zip(names, sizes, strict=True)) for sizes in choices]
    inferred = [_infer(model, binding) for binding in bindings]
    for value in (output for node in model.graph for output in node.outputs):
        shapes = [sizes[str(value.name)] for sizes in inferred if str(value.name) in sizes]
        if value.shape is not None and len(shapes) == len(bindings):
            value.shape = _named(value.shape, shapes, bindings)


def _open_axes(graph: ir.Graph) -> list[str]:
    named: dict[str, None] = {}
    for value in graph.inputs:
        for size in value.shape or ():
            if isinstance(size, ir.SymbolicDim) and size.value is not None:
                named[size.value] = None
    return list(named)


def _infer(model: ir.Model, binding: Mapping[str, int]) -> Sizes:
    """Shapes of every value for one choice of sizes."""
    sample = {
        str(value.name): np.empty([d if isinstance(d, int) else binding[str(d.value)] for d in value.shape], np.bool_)
        for value in model.graph.inputs
        if value.shape is not None and not value.is_initializer()
    }
    return concrete_sizes(model, sample)


def _named(shape: ir.Shape, shapes: list[tuple[int, ...]], bindings: list[dict[str, int]]) -> ir.Shape:
    found: list[int | ir.SymbolicDim | str] = []
    for index, size in enumerate(shape):
        sizes = [known[index] for known in shapes]
        found.append(size if isinstance(size, int) else _name(sizes, bindings) or size)
    return ir.Shape(found)


def _name(sizes: list[int], bindings: list[dict[str, int]]) -> str | None:
    """The axis that has these sizes, or the multiple of one, such as ``12*l`` for heads times tokens."""
    for name in bindings[0]:
        own = [binding[name] for binding in bindings]
        factor = sizes[0] // own[0]
        if factor and sizes == [factor * size for size in own]:
            return name if factor == 1 else f"{factor}*{name}"
    return None
