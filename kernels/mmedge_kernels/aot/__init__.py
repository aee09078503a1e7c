"""Ahead-of-time compilation of the Triton kernels into packs, without a GPU.

``python -m mmedge_kernels.aot --target jetson-orin-jp6 --out PACK`` does the same as `build_pack`. Needs Triton; the
packs do not, see `mmedge_kernels.pack`.
"""

from __future__ import annotations

from mmedge_kernels.aot.build import build_pack
from mmedge_kernels.aot.compile import CompiledKernel, compile_kernels
from mmedge_kernels.aot.jobs import Job, make_jobs
from mmedge_kernels.aot.report import report_table
from mmedge_kernels.aot.targets import ARCHITECTURES, TARGETS, Target, find_target
from mmedge_kernels.aot.write import write_pack

__all__ = [
    "ARCHITECTURES",
    "TARGETS",
    "CompiledKernel",
    "Job",
    "Target",
    "build_pack",
    "compile_kernels",
    "find_target",
    "make_jobs",
    "report_table",
    "write_pack",
]
