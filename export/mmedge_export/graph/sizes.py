"""Concrete shapes: what size each value of a graph has for one sample."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes.common import ShapeInferencePass

Sizes = dict[str, tuple[int, ...]]


def concrete_sizes(model: ir.Model, sample: Mapping[str, npt.NDArray[np.generic]]) -> Sizes:
    """Infer the shape of every value for the input shapes of `sample`.

    Values whose shape inference cannot tell (it depends on data, or on an operator it does not know) are absent: their
    cost counts as zero, never as a guess.

    Args:
        model: A prepared graph; it is not changed.
        sample: One array per graph input.
    """
    fixed = model.clone()
    for value in fixed.graph.inputs:
        if not value.is_initializer():
            value.shape = ir.Shape(sample[str(value.name)].shape)
    for node in fixed.graph:
        for output in node.outputs:
            output.shape = None
    onnxscript.optimizer.fold_constants(fixed, onnx_shape_inference=True)
    ShapeInferencePass(strict_mode=False)(fixed)
    values = [*fixed.graph.inputs, *fixed.graph.initializers.values(), *(o for n in fixed.graph for o in n.outputs)]
    return {str(v.name): _ints(v.shape) for v in values if v.shape is not None and v.shape.is_static()}


def value_bytes(value: ir.Value, sizes: Sizes) -> int:
    """Bytes of a value, 0 where its shape is unknown."""
    shape = sizes.get(str(value.name))
    if shape is None or value.dtype is None:
        return 0
    return math.ceil(math.prod(shape) * value.dtype.itemsize)


def _ints(shape: ir.Shape) -> tuple[int, ...]:
    return tuple(int(d) for d in shape if isinstance(d, int))
