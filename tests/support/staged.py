"""Run a graph whole and in stages, for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime

from mmedge.bundle import TensorSpec
from mmedge_export.graph.emit import StageWriter
from mmedge_export.graph.partition import StagePlan, partition
from mmedge_export.graph.prepare import prepare
from mmedge_export.graph.sizes import concrete_sizes

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]

HEADER = '<ir_version: 9, opset_import: ["" : 20]>\n'


def parse(text: str) -> onnx.ModelProto:
    """An ONNX model from its text form."""
    model = onnx.parser.parse_model(HEADER + text)
    onnx.checker.check_model(model)
    return model


class Staged:
    """A model cut into stages, each in a session of its own, with a count of runs."""

    def __init__(
        self,
        model: onnx.ModelProto,
        modalities: Mapping[str, str],
        sample: Arrays,
        folder: Path,
        *,
        merge_below: float = 0.0,
    ) -> None:
        self.whole = _session(model.SerializeToString())
        graph = ir.from_proto(model)
        specs = [_spec(value) for value in graph.graph.inputs]
        prepare(graph, specs)
        self.outputs = [str(value.name) for value in graph.graph.outputs]
        sizes = concrete_sizes(graph, sample)
        self.plans = partition(graph.graph, modalities, sizes, merge_below=merge_below)
        folder.mkdir(exist_ok=True)
        writer = StageWriter(folder)
        for index, plan in enumerate(self.plans):
            writer.write(graph, plan, str(index))
        self._sessions = [_session(folder / f"{index}.onnx") for index in range(len(self.plans))]

    @property
    def labels(self) -> set[str]:
        return {plan.name for plan in self.plans}

    def plan(self, name: str) -> StagePlan:
        return next(plan for plan in self.plans if plan.name == name)

    def run_whole(self, inputs: Arrays) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
        return dict(zip(self.outputs, self.whole.run(None, dict(inputs)), strict=True))

    def run_staged(self, inputs: Arrays) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
        values = dict(inputs)
        for plan, session in zip(self.plans, self._sessions, strict=True):
            names = [str(value.name) for value in plan.outputs]
            feed = {str(value.name): values[str(value.name)] for value in plan.inputs}
            values.update(zip(names, session.run(names, feed), strict=True))
        return {name: values[name] for name in self.outputs}

    def check(self, inputs: Arrays, tolerance: float = 1e-5) -> None:
        """Staged equals whole for `inputs`, in value, shape and dtype."""
        whole, staged = self.run_whole(inputs), self.run_staged(inputs)
        for name, expected in whole.items():
            got = staged[name]
            assert got.shape == expected.shape, name
            assert got.dtype == expected.dtype, name
            assert np.isfinite(expected).all(), f"{name}: the reference itself is not finite"
            error = float(np.linalg.norm((got - expected).astype(np.float64)))
            norm = float(np.linalg.norm(expected.astype(np.float64)))
            assert error <= tolerance * norm or error == 0.0, f"{name}: {error / norm:.2e}"


def _session(model: bytes | Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _spec(value: ir.Value) -> TensorSpec:
    assert value.dtype is not None
    assert value.shape is not None
    dtype = {"FLOAT": "float32", "INT64": "int64", "BOOL": "bool"}[value.dtype.name]
    return TensorSpec(str(value.name), dtype, tuple(d if isinstance(d, int) else str(d.value) for d in value.shape))
