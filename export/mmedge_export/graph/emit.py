"""Write the stages of a partition as ONNX files that share one file of weights."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from mmedge_export.graph.partition import StagePlan
from mmedge_export.graph.weights import WeightsFile

WEIGHTS = "weights.bin"


class StageWriter:
    """Writes stages into a folder. Weights that several stages use are stored once.

    Args:
        folder: Existing, empty folder of the stages.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._weights = WeightsFile(folder, WEIGHTS)

    def write(self, model: ir.Model, stage: StagePlan, name: str) -> None:
        """Cut `stage` out of `model` and write it as ``NAME.onnx``; large weights go to the shared weights file.

        Args:
            model: The prepared graph that was partitioned; it is not changed.
            stage: From `mmedge_export.graph.partition.partition`.
            name: File name without its suffix.

        Raises:
            OSError: The disk is full or the folder cannot be written.
        """
        graph = ir.convenience.extract(model.graph, stage.inputs, stage.outputs)
        graph.name = stage.name
        for value, output in zip(graph.outputs, stage.output_names, strict=True):
            value.name = output
        # Cutting collects weights in a set, whose order changes from run to run; the same model is the same bytes.
        weights = sorted(graph.initializers.values(), key=lambda value: str(value.name))
        graph.initializers.clear()
        for value in weights:
            graph.register_initializer(value)
        part = ir.Model(graph, ir_version=min(model.ir_version, 10), producer_name="mmedge")
        part.opset_imports.update(model.opset_imports)
        for inner in part.graphs():
            self._weights.keep(inner)
        ir.save(part, self._folder / f"{name}.onnx")
