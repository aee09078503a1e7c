"""The files of a variant: stages that share the weights of fp32 where they are the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx_ir as ir

from mmedge_export.graph.weights import WeightsFile


class VariantWriter:
    """Writes rewritten stages. What fp32 or another stage of the variant stores already is not stored again.

    Args:
        folder: ``stages/`` of the bundle that is being made.
        variant: Name of the variant; its own weights go to ``weights.VARIANT.bin``.
        sources: The fp32 stages.
    """

    def __init__(self, folder: Path, variant: str, sources: Iterable[ir.Model]) -> None:
        self._folder = folder
        self._weights = WeightsFile(folder, f"weights.{variant}.bin")
        for model in sources:
            for graph in model.graphs():
                for value in graph.initializers.values():
                    if isinstance(value.const_value, ir.ExternalTensor):
                        self._weights.know(value.const_value)

    def write(self, model: ir.Model, name: str) -> str:
        """Write ``NAME.onnx`` and return its path in the bundle.

        Raises:
            OSError: The disk is full or the folder cannot be written.
        """
        model.metadata_props.clear()
        model.producer_name = "mmedge"
        for graph in model.graphs():
            graph.metadata_props.clear()
            self._weights.keep(graph)
        ir.save(model, self._folder / f"{name}.onnx")
        return f"stages/{name}.onnx"


def load_stage(folder: Path, path: str) -> ir.Model:
    """A stage by its path in the bundle at `folder`, each node with a name of its own; large weights stay on disk."""
    model = ir.load(folder / path)
    taken: set[str] = set()
    for index, node in enumerate(model.graph):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}.{index}"
        taken.add(node.name)
    return model
