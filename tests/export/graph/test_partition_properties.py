"""Generated graphs: whatever the graph, the stages together compute what the whole computes, and stay within labels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support.staged import Staged

WIDTH = 4
UNARY = ("Tanh", "Sigmoid", "Softmax", "Neg", "first row", "project", "spread", "own height", "either")
BINARY = ("Add", "Mul", "Sub", "Max", "attend")

steps = st.lists(
    st.tuples(st.sampled_from(UNARY + BINARY), st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=14
)


def _node(kind: str, name: str, a: str, b: str) -> list[onnx.NodeProto]:
    """The nodes of one step; every value is [rows, WIDTH] with rows 1 or n."""
    if kind == "first row":
        return [helper.make_node("Slice", [a, "zero", "one", "zero"], [name])]
    if kind == "project":
        return [helper.make_node("MatMul", [a, "weight"], [name])]
    if kind == "spread":
        shape = [
            helper.make_node("Shape", ["text"], [f"{name}_rows"], start=0, end=1),
            helper.make_node("Concat", [f"{name}_rows", "width"], [f"{name}_shape"], axis=0),
        ]
        return [*shape, helper.make_node("Expand", [a, f"{name}_shape"], [name])]
    if kind == "own height":
        # A true use of a shape: divides by the number of rows, whatever that is.
        count = [
            helper.make_node("Shape", [a], [f"{name}_rows"], start=0, end=1),
            helper.make_node("Cast", [f"{name}_rows"], [f"{name}_float"], to=TensorProto.FLOAT),
        ]
        return [*count, helper.make_node("Div", [a, f"{name}_float"], [name])]
    if kind == "either":
        branches = {
            key: helper.make_graph(
                [helper.make_node(op, [a], [f"{name}_{key}"])],
                key,
                [],
                [helper.make_tensor_value_info(f"{name}_{key}", TensorProto.FLOAT, None)],
            )
            for key, op in (("then_branch", "Tanh"), ("else_branch", "Neg"))
        }
        return [helper.make_node("If", ["switch"], [name], **branches)]
    if kind == "attend":
        return [
            helper.make_node("Transpose", [b], [f"{name}_t"], perm=[1, 0]),
            helper.make_node("MatMul", [a, f"{name}_t"], [f"{name}_s"]),
            helper.make_node("Softmax", [f"{name}_s"], [f"{name}_p"], axis=-1),
            helper.make_node("MatMul", [f"{name}_p", b], [name]),
        ]
    inputs = [a] if kind in UNARY else [a, b]
    return [helper.make_node(kind, inputs, [name])]


def _build(plan: list[tuple[str, int, int]], chosen: list[int]) -> onnx.ModelProto:
    values = ["image", "text", "audio", "weight_row"]
    nodes: list[onnx.NodeProto] = []
    for index, (kind, a, b) in enumerate(plan):
        name = f"v{index}"
        nodes += _node(kind, name, values[a % len(values)], values[b % len(values)])
        values.append(name)
    made = values[4:]
    outputs = sorted({made[c % len(made)] for c in chosen} | {made[-1]})
    random = np.random.default_rng(len(plan))
    constants = {
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "width": np.array([WIDTH], np.int64),
        "weight": random.standard_normal((WIDTH, WIDTH)).astype(np.float32),
        "weight_row": random.standard_normal((1, WIDTH)).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "generated",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, WIDTH]),
            helper.make_tensor_value_info("text", TensorProto.FLOAT, ["n", WIDTH]),
            helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, WIDTH]),
            helper.make_tensor_value_info("switch", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _inputs(rows: int, seed: int) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    random = np.random.default_rng(seed)
    return {
        "image": random.standard_normal((1, WIDTH)).astype(np.float32),
        "text": random.standard_normal((rows, WIDTH)).astype(np.float32),
        "audio": random.standard_normal((1, WIDTH)).astype(np.float32),
        "switch": np.array(bool(seed % 2)),
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=steps, chosen=st.lists(st.integers(0, 10**6), max_size=3), merge=st.sampled_from([0.0, 1e-3]))
def test_staged_equals_whole(plan: list[tuple[str, int, int]], chosen: list[int], merge: float) -> None:
    model = _build(plan, chosen)
    modalities = {"image": "image", "text": "text", "audio": "audio", "switch": "clock"}
    with tempfile.TemporaryDirectory() as folder:
        staged = Staged(model, modalities, _inputs(3, 0), Path(folder), merge_below=merge)
        for rows, seed in ((1, 1), (2, 2), (5, 3)):
            staged.check(_inputs(rows, seed))
        for plan_ in staged.plans:
            reads = {str(v.name) for v in plan_.inputs}
            assert {modalities[name] for name in reads & set(modalities)} <= plan_.label
            given_by = [p for p in staged.plans if {str(v.name) for v in p.outputs} & reads]
            assert all(p.label < plan_.label for p in given_by)
