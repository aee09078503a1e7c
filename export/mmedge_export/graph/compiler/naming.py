"""Name an attention as its author does: by the module that owns its weights."""

from __future__ import annotations

import itertools

import onnx_ir as ir

from mmedge_export.graph.compiler.attention import Attention

_FAR = 12
_ENDS = ("MatMul", "Gemm", "LayerNormalization")


def site_name(attention: Attention) -> str:
    """The longest dotted path that the weights of queries and keys share, or the name of the softmax."""
    sides = [_weights(attention.queries), _weights(attention.keys)]
    # One weight on both sides is one that the optimizer found twice, zeros for example, named after its first use.
    pairs = [_shared(a, b) for a, b in itertools.product(*sides) if a != b]
    best = max(pairs, key=len, default=())
    # What is left when there is no such module is the tracer's own wrapping.
    own = best[1:] if best[:1] == ("module",) else best
    return ".".join(own) or attention.name


def _weights(value: ir.Value) -> list[tuple[str, ...]]:
    """Paths of the named weights next to the projection that makes `value`."""
    found: list[tuple[str, ...]] = []
    level: list[ir.Value] = [value]
    for _ in range(_FAR):
        nodes = [node for v in level if (node := v.producer()) is not None]
        level = []
        for node in nodes:
            inputs = [v for v in node.inputs if v is not None]
            found += [tuple(str(v.name).split(".")) for v in inputs if v.is_initializer() and "." in str(v.name)]
            if node.op_type not in _ENDS:
                level += inputs
    return found


def _shared(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(x for x, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
