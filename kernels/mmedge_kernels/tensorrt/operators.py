"""The ONNX operators of domain ``mmedge`` that become kernels inside a TensorRT engine, as data.

Inputs are dense tensors, all required: TensorRT's quick plugins have no optional ones, so a form with another input is
an operator of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DOMAIN = "mmedge"


@dataclass(frozen=True)
class Attribute:
    """An attribute of the node, and the constant of the kernel that it stands for.

    none_below_zero: a negative value stands for None, which ONNX attributes cannot hold.
    """

    name: str
    type: type[int] | type[float]
    constant: str
    none_below_zero: bool = False


@dataclass(frozen=True)
class PluginOperator:
    """``mmedge::name``. operator: of the kernels. inputs: in order; a kernel's parameter ``NAME_ptr`` takes NAME.

    out_shape: shapes of the inputs -> shape of the one output, of symbolic or whole numbers; its dtype is that of the
    first input. shared_batch: inputs whose first size is 1, for all rows of the first input, or that input's.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    out_shape: Callable[[Sequence[Sequence[Any]]], tuple[Any, ...]]
    shared_batch: tuple[str, ...] = ()

    @property
    def identifier(self) -> str:
        return f"{DOMAIN}::{self.name}"


def _like_first(shapes: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    return tuple(shapes[0])


def _prompt_out(shapes: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """x [B, M, D] or [B, N, M, D], a [N, D, H * L], a_bias, b [N, H * L, E] -> [B, N, M, E]."""
    x, a, b = shapes[0], shapes[1], shapes[3]
    return (x[0], a[0], x[len(x) - 2], b[2])


_SCALE = (Attribute("scale", float, "scale"),)
_PROMPT = (Attribute("heads", int, "HEADS"), Attribute("norm_eps", float, "norm_eps", none_below_zero=True))
_PROMPT_INPUTS = ("x", "a", "a_bias", "b", "c_bias")

OPERATORS: Mapping[str, PluginOperator] = {
    operator.name: operator
    for operator in (
        PluginOperator("cross_attention", "cross_attention", ("q", "k", "v"), _SCALE, _like_first, ("k", "v")),
        PluginOperator(
            "cross_attention_masked",
            "cross_attention",
            ("q", "k", "v", "mask"),
            _SCALE,
            _like_first,
            ("k", "v", "mask"),
        ),
        PluginOperator("prompt_attention", "prompt_attention", _PROMPT_INPUTS, _PROMPT, _prompt_out),
        PluginOperator(
            "prompt_attention_residual", "prompt_attention", (*_PROMPT_INPUTS, "residual"), _PROMPT, _prompt_out
        ),
    )
}
