"""Errors of the kernels.

KernelError
├── FrameError (also a ValueError): a frame, box array, output array or setting that the frame path does not take
├── TensorError (also a ValueError): a tensor, a shape, a dtype or a setting that an operator does not take
├── ImplementationError (also a RuntimeError): the implementation that was asked for cannot run here
│   └── NativeLibraryError: the native library was asked for and cannot be used
├── CompileError (also a RuntimeError): a kernel cannot be compiled for a target
└── PackError (also a RuntimeError): a kernel pack is damaged, is for another device, or lacks what was asked for
"""

from __future__ import annotations


class KernelError(Exception):
    """Base of every error that this package raises on purpose."""


class FrameError(KernelError, ValueError):
    """A frame, box array, output array or setting that the frame path does not take."""


class TensorError(KernelError, ValueError):
    """A tensor, a shape, a dtype or a setting that an operator does not take."""


class ImplementationError(KernelError, RuntimeError):
    """The implementation that was asked for cannot run here."""


class NativeLibraryError(ImplementationError):
    """The native library was asked for and cannot be used."""


class CompileError(KernelError, RuntimeError):
    """A kernel cannot be compiled for a target."""


class PackError(KernelError, RuntimeError):
    """A kernel pack is damaged, is for another device, or lacks what was asked for."""
