"""Graphs in which an image ``x`` is repeated for each row of ``text``, and what becomes of the repeat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime

from mmedge.bundle import TensorSpec
from mmedge_export.graph.labels import label_values
from mmedge_export.graph.prepare import prepare
from mmedge_export.graph.sinking import Sunk, sink_broadcasts

Array = np.ndarray[Any, np.dtype[Any]]


def graph(
    body: str,
    x: Sequence[int | str],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 20,
    rows: int | str = "n",
    repeat: str = "sizes = Concat<axis=0>(rows, tail)  r = Expand(x, sizes)",
) -> onnx.ModelProto:
    """A model in which ``r`` is `x` repeated, and the nodes of `body` make ``y`` (float) of it."""
    dims = ",".join(str(size) for size in x)
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[{dims}] x, float[{rows},2] text) => (float y) '
        f"{{ rows = Shape<start=0, end=1>(text)  {repeat}  {body} }}"
    )
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
    tail = [size for size in x[1:] if isinstance(size, int)]
    known = {"tail": np.array(tail, np.int64), **(constants or {})}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in known.items())
    return model


class Sinking:
    """A model before and after the pass."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._before = session(model)
        self.model = ir.from_proto(model)
        prepare(self.model, [_spec(value) for value in self.model.graph.inputs])
        self.records: list[Sunk] = sink_broadcasts(self.model)
        after = ir.to_proto(self.model)
        if all(value.type.tensor_type.HasField("shape") for value in after.graph.output):
            onnx.checker.check_model(after, full_check=True)
        self._after = session(after)

    def labels(self, *op_types: str) -> set[str]:
        """On what the nodes of these operators depend: ``x``, ``text``, ``text+x``."""
        labels = label_values(self.model.graph, {"x": "x", "text": "text"})
        return {"+".join(sorted(labels[n.outputs[0]])) for n in self.model.graph if n.op_type in op_types}

    @property
    def stops(self) -> dict[str, str]:
        """Why each operator stopped a repeat."""
        return {stop.op_type: stop.reason for record in self.records for stop in record.stops}

    def check(self, x: Sequence[int], rows: Iterable[int], seed: int = 0, tolerance: float = 1e-5) -> None:
        """The same result before and after, for fresh inputs."""
        for number in rows:
            random = np.random.default_rng([seed, number])
            feed = {name: random.standard_normal(shape).astype(np.float32) for name, shape in
                    (("x", tuple(x)), ("text", (number, 2)))}  # fmt: skip
            used = [str(value.name) for value in self.model.graph.inputs]
            before = self._before.run(None, {name: feed[name] for name in used})
            after = self._after.run(None, {name: feed[name] for name in used})
            for expected, got in zip(before, after, strict=True):
                assert got.shape == expected.shape
                assert got.dtype == expected.dtype
                np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def session(model: onnx.ModelProto | Path) -> Any:
    """An ONNX Runtime session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    source = model if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _spec(value: ir.Value) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else str(size.value) for size in value.shape or ())
    return TensorSpec(str(value.name), "float32", shape)
