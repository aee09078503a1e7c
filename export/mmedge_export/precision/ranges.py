"""What values a stage takes on calibration samples: smallest and largest of each, by running it with probes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from mmedge.errors import ExportError

Feeds = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Range:
    """Smallest and largest of all values that a tensor took."""

    low: float
    high: float

    @property
    def magnitude(self) -> float:
        return max(abs(self.low), abs(self.high))


def capture(model: ir.Model, folder: Path, samples: Sequence[Feeds]) -> dict[str, Range]:
    """The range of every float32 value of a stage, weights included, over `samples`; what was not seen is absent.

    Args:
        model: The stage; it is not changed. Values inside of loops and branches are not seen.
        folder: Where its external weights lie; a file is put there for the time of the call.
        samples: Inputs of the stage, one mapping for each run.

    Raises:
        ExportError: ONNX Runtime cannot run it with probes.
    """
    probed = model.clone()
    names = [str(v.name) for v in _floats(probed)]
    for index, value in enumerate(_floats(probed)):
        _probe(probed.graph, value, index)
    found = {name: Range(math.inf, -math.inf) for name in names}
    for low, high in _run(probed, folder, samples, len(names)):
        for name, a, b in zip(names, low, high, strict=True):
            found[name] = Range(min(found[name].low, a), max(found[name].high, b))
    found = {name: seen for name, seen in found.items() if seen.low <= seen.high}
    weights = {str(v.name): v.const_value for v in model.graph.initializers.values() if v.dtype == ir.DataType.FLOAT}
    found |= {name: _of(tensor.numpy()) for name, tensor in weights.items() if tensor is not None and tensor.size}
    return found


def _floats(model: ir.Model) -> list[ir.Value]:
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    return [v for v in values if v.dtype == ir.DataType.FLOAT and not v.is_initializer() and v.name]


def _probe(graph: ir.Graph, value: ir.Value, index: int) -> None:
    for kind in ("ReduceMin", "ReduceMax"):
        node = ir.node(kind, [value], attributes={"keepdims": 0}, name=f"{kind}.{index}")
        (output,) = node.outputs
        output.name, output.dtype, output.shape = f"probe.{kind}.{index}", ir.DataType.FLOAT, ir.Shape(())
        graph.append(node)
        graph.outputs.append(output)


def _run(probed: ir.Model, folder: Path, samples: Sequence[Feeds], count: int) -> list[tuple[list[float], list[float]]]:
    file = folder / ".probe.onnx"
    options = onnxruntime.SessionOptions()
    # A fused operator no longer has the values in between.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    wanted = [[f"probe.{kind}.{index}" for index in range(count)] for kind in ("ReduceMin", "ReduceMax")]
    try:
        ir.save(probed, file)
        session: Any = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        results = [[np.asarray(a).item() for a in session.run(wanted[0] + wanted[1], dict(feeds))] for feeds in samples]
    except Exception as error:
        # ONNX Runtime's exceptions share no public base class.
        raise ExportError(f"stage {probed.graph.name!r} cannot be run with probes for its ranges: {error}") from error
    finally:
        file.unlink(missing_ok=True)
    return [(row[:count], row[count:]) for row in results]


def _of(array: npt.NDArray[Any]) -> Range:
    return Range(float(array.min()), float(array.max()))
