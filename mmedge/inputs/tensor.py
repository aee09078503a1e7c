"""Tensors that the caller makes: checked against the manifest, and copied so that they stay what they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mmedge.bundle import TensorInput, TensorSpec
from mmedge.errors import TensorInputError
from mmedge.inputs import numpy_dtype


def check_tensors(modality: str, contract: TensorInput, tensors: Mapping[str, object]) -> dict[str, npt.NDArray[Any]]:
    """The tensors of one modality, as copies.

    Args:
        tensors: Arrays by the names of the contract. A named axis may have any size, the same wherever it stands.

    Raises:
        TensorInputError: A name, dtype or shape is another than the contract's, or a value is not finite.
    """
    names = [spec.name for spec in contract.tensors]
    if sorted(tensors) != sorted(names):
        raise TensorInputError(f"{modality!r} takes the tensors {', '.join(names)}; got {', '.join(tensors) or 'none'}")
    axes: dict[str, int] = {}
    return {spec.name: _checked(spec, tensors[spec.name], axes) for spec in contract.tensors}


def _checked(spec: TensorSpec, value: object, axes: dict[str, int]) -> npt.NDArray[Any]:
    wanted = f"tensor {spec.name!r} must be {spec.dtype} {list(spec.shape)}"
    if not isinstance(value, np.ndarray):
        raise TensorInputError(f"{wanted} as a numpy array, got {type(value).__name__}; use numpy.asarray")
    if value.dtype != numpy_dtype(spec):
        raise TensorInputError(f"{wanted}, got {value.dtype}; use .astype({spec.dtype!r})")
    if value.ndim != len(spec.shape):
        raise TensorInputError(f"{wanted}, got {list(value.shape)}")
    for axis, size in zip(spec.shape, value.shape, strict=True):
        expected = axes.setdefault(axis, size) if isinstance(axis, str) else axis
        if size != expected:
            raise TensorInputError(f"{wanted}, got {list(value.shape)}: axis {axis!r} must be {expected}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise TensorInputError(
            f"{wanted} of finite numbers, got {np.count_nonzero(~np.isfinite(value))} that are NaN or infinite"
        )
    return value.copy()
