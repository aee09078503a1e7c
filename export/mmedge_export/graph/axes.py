"""Name open axes: which axes of inner values follow which axis of the inputs.

Symbolic shape inference loses names at reshapes. Inference with numbers does not: an axis that has the size of input
axis ``n`` under two different choices of sizes is ``n``. Requires: a prepared graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from mmedge_export.graph.sizes import Sizes, concrete_sizes

# Small, so that lengths stay below any limit of positions, and different, so that no axis passes for another.
_CHOICES = ((5, 7, 11, 13, 17, 19), (3, 13, 7, 17, 5, 23))


def name_axes(model: ir.Model) -> None:
    """Write the names of input axes on the unnamed axes that follow them, in place."""
    names = _open_axes(model.graph)
    if not names or len(names) > len(_CHOICES[0]):
        return
    bindings = [dict(zip(names, sizes, strict=False)) for sizes in _CHOICES]
    inferred = [_infer(model, binding) for binding in bindings]
    for node in model.graph:
        for value in node.outputs:
            shapes = [sizes.get(str(value.name)) for sizes in inferred]
            if value.shape is not None and shapes[0] is not None and shapes[1] is not None:
                value.shape = _named(value.shape, shapes[0], shapes[1], bindings)


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


def _named(
    shape: ir.Shape, first: tuple[int, ...], second: tuple[int, ...], bindings: list[dict[str, int]]
) -> ir.Shape:
    found: list[int | ir.SymbolicDim | str] = []
    for size, a, b in zip(shape, first, second, strict=True):
        names = [name for name in bindings[0] if bindings[0][name] == a and bindings[1][name] == b]
        found.append(names[0] if names and not isinstance(size, int) else size)
    return ir.Shape(found)
