"""A torch module becomes an ONNX file, and stays callable as the reference for its exported form."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from mmedge.bundle import TensorSpec
from mmedge.errors import ExportError

OPSET = 20
EXTERNAL_FROM = 1 << 30
"""Bytes of weights from which they are written beside the ONNX file, which ends at 2 GB."""
Array = npt.NDArray[np.generic]


class TorchSource:
    """A torch module as the source of an export.

    Args:
        module: Takes the declared tensors by keyword. Returns a tensor, a tuple of tensors, or a mapping; entries of a
            mapping that are no tensors are left out.
        names: Names of the outputs. Optional where the module returns a mapping, or a single tensor.
    """

    def __init__(self, module: torch.nn.Module, names: Sequence[str] | None = None) -> None:
        self._module = module.eval()
        self._names = None if names is None else tuple(names)

    @property
    def description(self) -> dict[str, str]:
        """Framework, class and the hash of all weights, for the manifest."""
        kind = type(self._module)
        digest = hashlib.sha256()
        for name, tensor in sorted((n, t) for n, t in self._module.state_dict().items() if isinstance(t, torch.Tensor)):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return {
            "framework": f"torch {torch.__version__.split('+')[0]}",
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "weights_sha256": digest.hexdigest(),
        }

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The module's own outputs, computed in float32.

        Raises:
            ExportError: It cannot be called with these inputs, or its outputs cannot be named.
        """
        try:
            with torch.no_grad():
                result = self._module(**_tensors(inputs))
        except Exception as error:
            # Whatever the user's module raises is the cause to show.
            shapes = {name: list(a.shape) for name, a in inputs.items()}
            hint = (
                "; wrong tokenizer? its token ids must fit the embedding table" if isinstance(error, IndexError) else ""
            )
            raise ExportError(
                f"the module cannot be called with {shapes}: {type(error).__name__}: {error}{hint}"
            ) from error
        named = _named(result, self._names)
        return {name: _to_numpy(tensor) for name, tensor in named.items()}

    def to_onnx(self, path: Path, specs: Sequence[TensorSpec], samples: Sequence[Mapping[str, Array]]) -> Path:
        """Trace the module and write it as `path`, weights beside it where the file would pass 2 GB.

        Args:
            path: The .onnx file.
            specs: The declared tensors; named axes stay open.
            samples: One array per tensor each; the first that can be traced is.

        Raises:
            ExportError: No sample can be traced, or tracing failed; the message holds the tracer's own words.
        """
        sample = _traceable(specs, samples)
        names = tuple(self.run(sample))
        axes = {a: None for spec in specs for a in spec.shape if isinstance(a, str)}
        dims = {axis: torch.export.Dim(f"axis_{index}") for index, axis in enumerate(axes)}
        dynamic = {s.name: {i: dims[a] for i, a in enumerate(s.shape) if isinstance(a, str)} for s in specs}
        flat = _Flat(self._module, self._names, [spec.name for spec in specs])
        try:
            with _quiet(), torch.no_grad():
                program = torch.onnx.export(
                    flat,
                    args=tuple(_tensors(sample)[spec.name] for spec in specs),
                    dynamo=True,
                    opset_version=OPSET,
                    input_names=[spec.name for spec in specs],
                    output_names=list(names),
                    dynamic_shapes=(tuple(dynamic[spec.name] for spec in specs),),
                    verbose=False,
                )
        except Exception as error:
            # The exporter raises errors of torch.export, of the ONNX decompositions and of onnxscript.
            raise ExportError(f"torch.onnx.export cannot trace the module: {_first_lines(error)}") from error
        if program is None:
            raise ExportError("torch.onnx.export returned no program")
        program.save(path, external_data=_bytes(self._module) > EXTERNAL_FROM)
        return path


@contextmanager
def _quiet() -> Iterator[None]:
    """The tracer warns about its own internals and about packages that nothing here needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _Flat(torch.nn.Module):
    """Positional tensors in, a flat tuple out: the form in which names can be given to both sides."""

    def __init__(self, module: torch.nn.Module, names: tuple[str, ...] | None, inputs: list[str]) -> None:
        super().__init__()
        self.module = module
        self._names = names
        self._inputs = inputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = self.module(**dict(zip(self._inputs, tensors, strict=True)))
        return tuple(_named(result, self._names).values())


def _named(result: Any, names: tuple[str, ...] | None) -> dict[str, torch.Tensor]:
    if isinstance(result, Mapping):
        tensors = {str(k): v for k, v in result.items() if isinstance(v, torch.Tensor)}
        missing = [name for name in names or () if name not in tensors]
        if missing:
            raise ExportError(f"the module returns {', '.join(tensors)}; it has no output {', '.join(missing)}")
        if not tensors:
            raise ExportError(
                f"the module must return tensors, got a mapping of {', '.join(map(str, result)) or 'nothing'}"
            )
        return {name: tensors[name] for name in names or tensors}
    flat = tuple(result) if isinstance(result, (tuple, list)) else (result,)
    if not all(isinstance(t, torch.Tensor) for t in flat):
        raise ExportError(f"the module must return tensors, got {[type(t).__name__ for t in flat]}")
    given = names or (("output",) if len(flat) == 1 else ())
    if len(given) != len(flat):
        raise ExportError(f"the module returns {len(flat)} tensors, outputs= names {len(given)}: name each in order")
    return dict(zip(given, flat, strict=True))


def _traceable(specs: Sequence[TensorSpec], samples: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    """A sample in which no open axis has size 0 or 1 and no two have the same: tracing takes such sizes for fixed."""
    for sample in samples:
        axes: dict[str, int] = {}
        for spec in specs:
            sizes = zip(spec.shape, sample[spec.name].shape, strict=True)
            axes.update((axis, size) for axis, size in sizes if isinstance(axis, str))
        if all(size > 1 for size in axes.values()) and len(set(axes.values())) == len(axes):
            return sample
    raise ExportError(
        "no sample can be traced: one is needed whose open axes (number of prompts, tokens, ...) all differ and are "
        "larger than 1; give such samples"
    )


def _tensors(arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    # Fresh tensors each time: one traced attempt can leave its marks on the tensors that it was given.
    return {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}


def _to_numpy(tensor: torch.Tensor) -> Array:
    full = tensor.float() if tensor.is_floating_point() else tensor
    return cast(Array, full.cpu().numpy())


def _bytes(module: torch.nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def _first_lines(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: " + " | ".join(lines[:6])
