"""One file of weights that several ONNX files share: each weight is stored once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx_ir as ir

_EXTERNAL_FROM = 1024
_ALIGNMENT = 64


class WeightsFile:
    """Grows as weights come that it does not hold yet.

    Args:
        folder: Where it lies, beside the ONNX files.
        location: Its name; an older one is replaced.
    """

    def __init__(self, folder: Path, location: str) -> None:
        self._folder = folder
        self._location = location
        self._known: dict[bytes, ir.ExternalTensor] = {}
        self._end = 0
        (folder / location).unlink(missing_ok=True)

    def know(self, tensor: ir.ExternalTensor) -> None:
        """What another file of the folder holds is not stored again."""
        self._known[_digest(tensor, tensor.tobytes())] = tensor

    def keep(self, graph: ir.Graph) -> None:
        """Move the large weights of `graph` out; small ones stay, also those that had a file of their own.

        Raises:
            OSError: The disk is full or the folder cannot be written.
        """
        for value in sorted(graph.initializers.values(), key=lambda value: str(value.name)):
            tensor = value.const_value
            if tensor is not None and tensor.nbytes >= _EXTERNAL_FROM:
                value.const_value = self._stored(tensor)
            elif isinstance(tensor, ir.ExternalTensor):
                value.const_value = ir.tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)

    def _stored(self, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
        data = tensor.tobytes()
        digest = _digest(tensor, data)
        if digest not in self._known:
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


def _digest(tensor: ir.TensorProtocol, data: bytes) -> bytes:
    return hashlib.sha256(f"{tensor.dtype.name} {tensor.shape}".encode() + data).digest()
