"""Generated graphs: whatever follows a repeat, the result is the same with any number of prompts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support.sinking import Array, Sinking

Axes = tuple[tuple[int, int], ...]
"""The axes of a value: (c, e) stands for c·n^e, with n the number of prompts."""

X = (1, 2, 4)
UNARY = ("Tanh", "Sigmoid", "Neg", "Softmax", "LogSoftmax", "Mean", "Max", "Running", "First", "Turn", "Project")
SHAPING = ("Flat rows", "Flat columns", "By its shape", "Repeat")
BINARY = ("Add", "Mul", "Where", "Join", "Product")
steps = st.lists(
    st.tuples(st.sampled_from(UNARY + SHAPING + BINARY), *[st.integers(0, 10**6)] * 3), min_size=2, max_size=9
)


@dataclass
class _Chain:
    """A graph under construction; every value has three axes."""

    rows: int | str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    values: dict[str, Axes] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], axes: Axes | None = None, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        if axes is not None:
            self.values[name] = axes
        return name

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def repeat(self, value: str, axis: int) -> str:
        """`value`, of size 1 along `axis`, n times along it."""
        parts = [self.ints(1) if i != axis else "rows" for i in range(3)]
        axes = tuple((1, 1) if i == axis else size for i, size in enumerate(self.values[value]))
        return self.add("Expand", [value, self.add("Concat", parts, axis=0)], axes)

    def step(self, kind: str, first: str, second: str, number: int) -> None:
        axes, axis = self.values[first], number % 3
        kept = tuple((1, 0) if i == axis else size for i, size in enumerate(axes))
        if kind in ("Tanh", "Sigmoid", "Neg"):
            self.add(kind, [first], axes)
        elif kind in ("Softmax", "LogSoftmax"):
            self.add(kind, [first], axes, axis=axis)
        elif kind in ("Mean", "Max"):
            self.add(f"Reduce{kind}", [first, self.ints(axis)], kept)
        elif kind == "Running":
            self.add("CumSum", [first, self.constant(np.array(axis))], axes)
        elif kind == "First":
            self.add("Slice", [first, self.ints(0), self.ints(1), self.ints(axis)], kept)
        elif kind == "Turn":
            order = [(0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)][number % 5]
            self.add("Transpose", [first], tuple(axes[i] for i in order), perm=list(order))
        elif kind == "Project" and axes[2][1] == 0:
            weight = np.random.default_rng(number).standard_normal((axes[2][0], 3)).astype(np.float32)
            self.add("MatMul", [first, self.constant(weight)], (*axes[:2], (3, 0)))
        elif kind in SHAPING:
            self._shape(kind, first, number)
        elif kind in BINARY:
            self._join(kind, first, second, number)

    def _shape(self, kind: str, first: str, number: int) -> None:
        a, b, c = self.values[first]
        merged = [(p[0] * q[0], p[1] + q[1]) for p, q in ((a, b), (b, c))]
        if kind == "Flat rows" and c[1] == 0:
            self.add("Reshape", [first, self.ints(1, -1, c[0])], ((1, 0), merged[0], c))
        elif kind == "Flat columns":
            self.add("Reshape", [first, self.ints(0, 1, -1)], (a, (1, 0), merged[1]))
        elif kind == "By its shape":
            shape = self.add("Shape", [first])
            left, middle, right = (self.add("Gather", [shape, self.ints(i)]) for i in range(3))
            parts = [self.add("Mul", [left, middle]), right, self.ints(1)]
            self.add("Reshape", [first, self.add("Concat", parts, axis=0)], (merged[0], c, (1, 0)))
        elif kind == "Repeat" and (1, 0) in (a, b, c):
            places = [i for i, size in enumerate((a, b, c)) if size == (1, 0)]
            self.repeat(first, places[number % len(places)])

    def _join(self, kind: str, first: str, second: str, number: int) -> None:
        a, b = self.values[first], self.values[second]
        fits = all(p == q or (1, 0) in (p, q) for p, q in zip(a, b, strict=True))
        both = tuple(q if p == (1, 0) else p for p, q in zip(a, b, strict=True))
        axis = number % 3
        if kind in ("Add", "Mul") and fits:
            self.add(kind, [first, second], both)
        elif kind == "Where" and fits:
            self.add("Where", [self.add("Less", [first, second]), first, second], both)
        elif kind == "Join" and a == b and a[axis][1] == 0:
            self.add(
                "Concat", [first, second], tuple((2 * s[0], 0) if i == axis else s for i, s in enumerate(a)), axis=axis
            )
        elif kind == "Product" and a[2] == b[2] and (a[0] == b[0] or (1, 0) in (a[0], b[0])):
            turned = self.add("Transpose", [second], perm=[0, 2, 1])
            self.add("MatMul", [first, turned], (both[0], a[1], b[1]))

    def model(self, chosen: list[int]) -> onnx.ModelProto:
        made = [name for name in self.values if name not in ("x", "t")]
        names = dict.fromkeys([made[-1], *(made[c % len(made)] for c in chosen)])
        return helper.make_model(
            helper.make_graph(
                self.nodes,
                "generated",
                [
                    helper.make_tensor_value_info("x", TensorProto.FLOAT, X),
                    helper.make_tensor_value_info("text", TensorProto.FLOAT, [self.rows, 2]),
                ],
                [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in names],
                [onnx.numpy_helper.from_array(array, name) for name, array in self.constants.items()],
            ),
            opset_imports=[helper.make_opsetid("", 20)],
            ir_version=9,
        )


def _start(rows: int | str) -> _Chain:
    chain = _Chain(rows)
    chain.values["x"] = tuple((size, 0) for size in X)
    chain.nodes.append(helper.make_node("Shape", ["text"], ["rows"], start=0, end=1))
    chain.nodes.append(helper.make_node("Unsqueeze", ["text", chain.ints(1)], ["t"]))
    chain.values["t"] = ((1, 1), (1, 0), (2, 0))
    copies = chain.repeat("x", 0)
    chain.add("Exp", [copies], chain.values[copies])
    return chain


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=steps, chosen=st.lists(st.integers(0, 10**6), max_size=2), rows=st.sampled_from(["n", "n", 3]))
def test_the_result_is_the_same(plan: list[tuple[str, int, int, int]], chosen: list[int], rows: int | str) -> None:
    chain = _start(rows)
    for kind, first, second, number in plan:
        # Late values are likelier, so that chains grow long.
        names = list(chain.values)
        chain.step(kind, names[-1 - first % min(len(names), 3)], names[second % len(names)], number)
    sinking = Sinking(chain.model(chosen))
    sinking.check(X, (1, 2, 4) if rows == "n" else (3,), tolerance=1e-4)
