"""Kernel packs on the device: kernels compiled ahead of time, verified, loaded and launched without Triton or torch.

`open_pack` needs the standard library only; loading a kernel needs PyCUDA. Packs are made by `mmedge_kernels.aot`.
"""

from __future__ import annotations

from mmedge_kernels.pack.architectures import runs_on
from mmedge_kernels.pack.launch import LoadedKernel
from mmedge_kernels.pack.manifest import FORMAT, PackedFile, PackedKernel, PackTarget
from mmedge_kernels.pack.reading import KernelPack, open_pack

__all__ = [
    "FORMAT",
    "KernelPack",
    "LoadedKernel",
    "PackTarget",
    "PackedFile",
    "PackedKernel",
    "open_pack",
    "runs_on",
]
