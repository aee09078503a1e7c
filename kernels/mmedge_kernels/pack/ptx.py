"""The few things that are read and changed in PTX text: version, target, and the parameter list of the one kernel.

PTX is NVIDIA's published assembly language (PTX ISA reference, "kernel function definitions").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmedge_kernels.errors import PackError

_ENTRY = re.compile(r"\.visible\s+\.entry\s+([A-Za-z_$%][A-Za-z0-9_$]*)\s*\(([^)]*)\)")
_PARAMETER = re.compile(r"\.param\s+\.([a-z]\d+)(?:\s+\.ptr\b[^,]*?)?\s+([A-Za-z_$%][A-Za-z0-9_$]*)")
_VERSION = re.compile(r"^\s*\.version\s+(\d+\.\d+)\s*$", re.MULTILINE)
_TARGET = re.compile(r"^\s*\.target\s+(sm_\d+[af]?)\b", re.MULTILINE)
_POINTER_TYPES = frozenset({"u64", "b64"})
_NUMBER_TYPES = frozenset({"u32", "s32", "b32"})


@dataclass(frozen=True)
class PtxParameter:
    """Name and type (``u64``, ``b32``) of one parameter of a kernel."""

    name: str
    type: str

    @property
    def kind(self) -> str:
        """``pointer``, ``i32``, or the PTX type where it is neither."""
        if self.type in _POINTER_TYPES:
            return "pointer"
        return "i32" if self.type in _NUMBER_TYPES else self.type


@dataclass(frozen=True)
class PtxKernel:
    """What the text says of itself. target: such as ``sm_87`` or ``sm_90a``."""

    entry: str
    parameters: tuple[PtxParameter, ...]
    version: str
    target: str


def read_ptx(ptx: str) -> PtxKernel:
    """Raises PackError unless the text has one version, one target and one kernel of pointers and numbers."""
    version, target = _only(_VERSION, ptx, "version"), _only(_TARGET, ptx, "target")
    entry = _only(_ENTRY, ptx, "kernel")
    return PtxKernel(entry[1], tuple(_parameter(part) for part in _parts(entry[2])), version[1], target[1])


def without_trailing_parameters(ptx: str, count: int) -> str:
    """The same kernel without its last `count` parameters.

    Raises PackError when there are fewer, or when the code uses one of them.
    """
    kernel = read_ptx(ptx)
    if not 0 <= count < len(kernel.parameters):
        raise PackError(f"cannot remove {count} of the {len(kernel.parameters)} parameters of {kernel.entry}")
    if count == 0:
        return ptx
    start, end = _only(_ENTRY, ptx, "kernel").span(2)
    for parameter in kernel.parameters[-count:]:
        if re.search(rf"(?<![A-Za-z0-9_$]){re.escape(parameter.name)}(?![A-Za-z0-9_$])", ptx[:start] + ptx[end:]):
            raise PackError(f"{kernel.entry} uses its parameter {parameter.name}: it cannot be removed")
    kept = ",".join(_parts(ptx[start:end])[:-count])
    return f"{ptx[:start]}{kept}\n{ptx[end:]}"


def _only(pattern: re.Pattern[str], ptx: str, what: str) -> re.Match[str]:
    found = list(pattern.finditer(ptx))
    if len(found) != 1:
        raise PackError(f"the PTX must have one {what}, it has {len(found)}")
    return found[0]


def _parts(listed: str) -> list[str]:
    return [part for part in listed.split(",") if part.strip()]


def _parameter(text: str) -> PtxParameter:
    match = _PARAMETER.fullmatch(text.strip())
    if match is None:
        raise PackError(f"a parameter of the PTX is neither a pointer nor a number: {text.strip()!r:.120}")
    return PtxParameter(match[2], match[1])
