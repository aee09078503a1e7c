"""The files of a variant: stages that share the weights of fp32 where they are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import onnx_ir as ir

_EXTERNAL_FROM = 1024
_ALIGNMENT = 64


class VariantWriter:
    """Writes rewritten stages. What fp32 or another stage of the variant stores already is not stored again.

    Args:
        folder: ``stages/`` of the bundle that is being made.
        variant: Name of the variant; its own weights go to ``weights.VARIANT.bin``.
        sources: The fp32 stages.
    """

    def __init__(self, folder: Path, variant: str, sources: Iterable[ir.Model]) -> None:
        self._folder = folder
        self._location = f"weights.{variant}.bin"
        self._known: dict[bytes, ir.ExternalTensor] = {}
        self._end = 0
        self._remove_old()
        for model in sources:
            for graph in model.graphs():
                for value in graph.initializers.values():
                    if isinstance(value.const_value, ir.ExternalTensor):
                        self._known[_digest(value.const_value)] = value.const_value

    def write(self, model: ir.Model, name: str) -> str:
        """Write ``NAME.onnx`` and return its path in the bundle.

        Raises:
            OSError: The disk is full or the folder cannot be written.
        """
        model.metadata_props.clear()
        model.producer_name = "mmedge"
        for graph in model.graphs():
            graph.metadata_props.clear()
            for value in sorted(graph.initializers.values(), key=lambda value: str(value.name)):
                if value.const_value is not None:
                    value.const_value = self._stored(value.const_value)
        ir.save(model, self._folder / f"{name}.onnx")
        return f"stages/{name}.onnx"

    def _remove_old(self) -> None:
        (self._folder / self._location).unlink(missing_ok=True)

    def _stored(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if tensor.nbytes < _EXTERNAL_FROM:
            return tensor
        digest = _digest(tensor)
        if digest not in self._known:
            data = tensor.tobytes()
            padding = -self._end % _ALIGNMENT
            with (self._folder / self._location).open("ab") as file:
                file.write(b"\0" * padding)
                file.write(data)
            self._known[digest] = ir.ExternalTensor(
                location=self._location,
                offset=self._end + padding,
                length=len(data),
                dtype=tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=tensor.name or digest.hex(),
                base_dir=self._folder,
            )
            self._end += padding + len(data)
        return self._known[digest]


def load_stage(folder: Path, path: str) -> ir.Model:
    """A stage by its path in the bundle at `folder`, each node with a name of its own; large weights stay on disk."""
    model = ir.load(folder / path)
    taken: set[str] = set()
    for index, node in enumerate(model.graph):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}.{index}"
        taken.add(node.name)
    return model


def _digest(tensor: ir.TensorProtocol) -> bytes:
    return hashlib.sha256(f"{tensor.dtype.name} {tensor.shape}".encode() + tensor.tobytes()).digest()
