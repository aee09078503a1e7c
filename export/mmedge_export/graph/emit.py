"""Write the stages of a partition as ONNX files that share one file of weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir

from mmedge_export.graph.partition import StagePlan

WEIGHTS = "weights.bin"
_EXTERNAL_FROM = 1024
_ALIGNMENT = 64


class StageWriter:
    """Writes stages into a folder. Weights that several stages use are stored once.

    Args:
        folder: Existing, empty folder of the stages.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[bytes, ir.ExternalTensor] = {}
        self._end = 0

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
        with (self._folder / WEIGHTS).open("ab") as file:
            for value in (v for inner in part.graphs() for v in inner.initializers.values()):
                if value.const_value is not None:
                    value.const_value = self._stored(value.const_value, file)
        ir.save(part, self._folder / f"{name}.onnx")

    def _stored(self, tensor: ir.TensorProtocol, file: BinaryIO) -> ir.TensorProtocol:
        """Large weights outside; small ones inside, also those that the source kept in a file of its own."""
        if tensor.nbytes >= _EXTERNAL_FROM:
            return self._place(tensor, file)
        return (
            ir.tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
            if isinstance(tensor, ir.ExternalTensor)
            else tensor
        )

    def _place(self, tensor: ir.TensorProtocol, file: BinaryIO) -> ir.ExternalTensor:
        data = tensor.tobytes()
        digest = hashlib.sha256(f"{tensor.dtype.name} {tensor.shape}".encode() + data).digest()
        if digest not in self._known:
            padding = -self._end % _ALIGNMENT
            file.write(b"\0" * padding)
            file.write(data)
            self._known[digest] = ir.ExternalTensor(
                location=WEIGHTS,
                offset=self._end + padding,
                length=len(data),
                dtype=tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=tensor.name or digest.hex(),
                base_dir=self._folder,
            )
            self._end += padding + len(data)
        return self._known[digest]
