"""What compiled kernels need, as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmedge_kernels.pack.manifest import PackedKernel

_HEAD = ("kernel", "sm", "registers", "spilled", "shared", "warps", "ptx", "cuda", "code")
_NAMES = 1  # columns of text come first, to the left; numbers to the right


def report_table(kernels: Iterable[PackedKernel]) -> str:
    """One line a kernel: registers and spilled bytes a thread, shared bytes a block, versions, bytes of its file."""
    rows = [_HEAD, *(_row(kernel) for kernel in sorted(kernels, key=lambda k: (k.name, k.sm)))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    return "\n".join(_line(row, widths) for row in rows)


def spill_messages(kernels: Iterable[PackedKernel]) -> list[str]:
    """One line for each kernel that is built to keep everything in registers and does not."""
    return [f"{k.name} for sm_{k.sm} spills {k.stack_bytes} bytes a thread" for k in kernels if k.spills]


def _row(kernel: PackedKernel) -> tuple[str, ...]:
    numbers = (kernel.registers, kernel.stack_bytes, kernel.shared_bytes, kernel.warps)
    return (
        kernel.name, kernel.architecture.removeprefix("sm_"), *map(str, numbers), kernel.ptx_version, kernel.toolkit,
        str(kernel.cubin.size),
    )  # fmt: skip


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if i < _NAMES else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
