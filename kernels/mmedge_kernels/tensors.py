"""What the operators on torch tensors share: checks of their arguments, and the choice of the implementation."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch

from mmedge_kernels.errors import ImplementationError, TensorError

Implementation: TypeAlias = Literal["auto", "triton", "reference"]

TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
OLDEST_CAPABILITY = (7, 5)
OLDEST_BFLOAT16_CAPABILITY = (8, 0)


def check_tensor(
    name: str,
    tensor: object,
    shape_letters: str,
    ndim: int | tuple[int, ...],
    dtypes: Sequence[torch.dtype],
    device: torch.device | None = None,
) -> None:
    """Raises TensorError unless `tensor` is a tensor of `ndim` dimensions, one of `dtypes`, on `device`, not empty.

    shape_letters: the shape in words, such as ``[B, H, M, d]``; it only appears in the messages. ndim: one number, or
    all that are allowed.
    """
    ranks = ndim if isinstance(ndim, tuple) else (ndim,)
    if not isinstance(tensor, torch.Tensor):
        raise TensorError(f"{name} must be a torch.Tensor {shape_letters}, got {type(tensor).__name__}")
    if tensor.ndim not in ranks:
        allowed = " or ".join(map(str, ranks))
        raise TensorError(f"{name} must have {allowed} dimensions {shape_letters}, got shape {list(tensor.shape)}")
    if tensor.dtype not in dtypes:
        raise TensorError(f"{name} must be {' or '.join(map(_dtype_name, dtypes))}, got {_dtype_name(tensor.dtype)}")
    if device is not None and tensor.device != device:
        raise TensorError(f"{name} must be on {device} like the first tensor, got {tensor.device}; move it there")
    if 0 in tensor.shape:
        raise TensorError(f"{name} {shape_letters} must have no dimension of size 0, got shape {list(tensor.shape)}")


def check_shape(name: str, tensor: torch.Tensor, shape_letters: str, expected: Sequence[int | tuple[int, ...]]) -> None:
    """Raises TensorError unless each size is the expected one, or one of the expected ones where a tuple is given."""
    for size, wanted in zip(tensor.shape, expected, strict=True):
        if size not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            sizes = ", ".join(" or ".join(map(str, w)) if isinstance(w, tuple) else str(w) for w in expected)
            raise TensorError(f"{name} must have shape {shape_letters} = [{sizes}], got {list(tensor.shape)}")


def check_implementation(implementation: object) -> None:
    """Raises TensorError for a name that is none of "auto", "triton" and "reference"."""
    if implementation not in ("auto", "triton", "reference"):
        raise TensorError(f'implementation must be "auto", "triton" or "reference", got {implementation!r}')


def choose_implementation(implementation: str, tensor: torch.Tensor) -> Literal["triton", "reference"]:
    """The implementation that runs for `tensor`.

    "auto" takes Triton for a tensor on an NVIDIA GPU that the kernels support, where Triton can be imported, and the
    reference everywhere else (CPU, ROCm and other devices, float64).
    Raises TensorError for an unknown name or a dtype that the forced implementation does not take,
    ImplementationError when Triton is forced and cannot run here.
    """
    check_implementation(implementation)
    if implementation == "reference":
        return "reference"
    if implementation == "auto" and not tensor.is_cuda:
        return "reference"  # in Triton's interpreter too: it is for tests, and slow
    obstacle = _triton_obstacle(tensor)
    if obstacle is None:
        return "triton"
    if implementation == "auto":
        return "reference"
    raise obstacle


def triton_interprets() -> bool:
    """Whether Triton runs kernels in its interpreter, which takes CPU tensors (TRITON_INTERPRET=1)."""
    triton = _triton()
    return triton is not None and bool(triton.knobs.runtime.interpret)


def _triton_obstacle(tensor: torch.Tensor) -> TensorError | ImplementationError | None:
    """Why the kernels cannot run on `tensor`, or None."""
    if tensor.dtype not in TRITON_DTYPES:
        allowed = ", ".join(map(_dtype_name, TRITON_DTYPES))
        return TensorError(f"the Triton kernels take {allowed}, got {_dtype_name(tensor.dtype)}; use the reference")
    if _triton() is None:
        return ImplementationError("Triton cannot be imported; install it with: pip install 'triton>=3.6'")
    if triton_interprets():
        if tensor.dtype == torch.bfloat16 and not _interpreter_multiplies_bfloat16():
            return ImplementationError("Triton's interpreter multiplies bfloat16 wrongly; test with float32 or float16")
        return None
    if not tensor.is_cuda or torch.version.hip is not None:
        where = "ROCm" if tensor.is_cuda else f"device {tensor.device}"
        return ImplementationError(
            f"the Triton kernels run on NVIDIA GPUs, got a tensor on {where}; move it to a CUDA device, take "
            'implementation="reference", or set TRITON_INTERPRET=1 before the start to test without a GPU'
        )
    oldest = OLDEST_BFLOAT16_CAPABILITY if tensor.dtype == torch.bfloat16 else OLDEST_CAPABILITY
    capability = torch.cuda.get_device_capability(tensor.device)
    if capability < oldest:
        needs = f"{_dtype_name(tensor.dtype)} needs compute capability {oldest[0]}.{oldest[1]}"
        return ImplementationError(f"{needs}, the GPU has {capability[0]}.{capability[1]}; take another dtype")
    return None


def autocast(first: torch.Tensor, *others: torch.Tensor | None) -> tuple[Any, ...]:
    """All of them in autocast's dtype, where it is on for the device of the first; float64 and what is no tensor stay.

    None stays None, for arguments that are left out.
    """
    if not isinstance(first, torch.Tensor) or not _is_autocast_on(first.device):
        return (first, *others)
    dtype = torch.get_autocast_dtype(first.device.type)
    return tuple(_cast(tensor, dtype) for tensor in (first, *others))


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """For references: their products are meant to be as precise as they are written."""
    return torch.autocast(device.type, enabled=False) if _is_autocast_on(device) else contextlib.nullcontext()


def on_device(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Makes `device` the current one: Triton launches there, and not where the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _is_autocast_on(device: torch.device) -> bool:
    """Whether torch.autocast is on for tensors on `device`; it knows nothing of some devices, such as meta."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def _cast(tensor: Any, dtype: torch.dtype) -> Any:
    casts = isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.dtype != torch.float64
    return tensor.to(dtype) if casts else tensor


@functools.cache
def _interpreter_multiplies_bfloat16() -> bool:
    """Whether one times one is one. Triton up to 3.9 keeps bfloat16 as bits in uint16 there and multiplies these."""
    import numpy as np
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    one = TensorHandle(np.full((1, 1), 0x3F80, np.uint16), tl.bfloat16)
    nothing = TensorHandle(np.zeros((1, 1), np.float32), tl.float32)
    return bool(InterpreterBuilder().create_dot(one, one, nothing, None, None).data == 1.0)


@functools.cache
def _triton() -> Any:
    """The triton module, or None where it cannot be imported."""
    try:
        return importlib.import_module("triton")
    except (ImportError, OSError):  # OSError: a shared library of Triton does not load
        return None


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
