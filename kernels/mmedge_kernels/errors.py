"""Errors of the kernels.

KernelError
├── FrameError (also a ValueError): a frame, box array, output array or setting that the frame path does not take
└── NativeLibraryError (also a RuntimeError): the native library was asked for and cannot be used
"""

from __future__ import annotations


class KernelError(Exception):
    """Base of every error that this package raises on purpose."""


class FrameError(KernelError, ValueError):
    """A frame, box array, output array or setting that the frame path does not take."""


class NativeLibraryError(KernelError, RuntimeError):
    """The native library was asked for and cannot be used."""
