"""An existing ONNX file as the source of an export."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from mmedge.bundle import TensorSpec
from mmedge.errors import ExportError

Array = npt.NDArray[np.generic]


class OnnxSource:
    """An ONNX file, run as it is, without graph optimisation, as the truth for its staged form.

    Args:
        path: The .onnx file; external weights lie beside it.

    Raises:
        ExportError: There is no such file, or ONNX Runtime cannot load it.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ExportError(f"no ONNX file at {path}")
        self._path = path
        options = onnxruntime.SessionOptions()
        # Optimisers have been seen to change results; the reference must not have passed through one.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # ONNX Runtime's exceptions share no public base class.
            raise ExportError(f"ONNX Runtime cannot load {path}: {error}") from error

    @property
    def description(self) -> dict[str, str]:
        """Framework, graph name and the hash of the file, for the manifest."""
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"framework": "onnx", "class": self._path.stem, "weights_sha256": digest}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The file's outputs for `inputs`.

        Raises:
            ExportError: ONNX Runtime refused them.
        """
        names = [output.name for output in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        except Exception as error:
            shapes = {name: list(a.shape) for name, a in inputs.items()}
            raise ExportError(f"{self._path} cannot be run with {shapes}: {error}") from error

    def to_onnx(self, path: Path, specs: Sequence[TensorSpec], samples: Sequence[Mapping[str, Array]]) -> Path:
        """The file itself: nothing is to be traced."""
        return self._path
