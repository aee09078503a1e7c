"""What a cubin says of itself: architecture, toolkit format, parameters; and what its functions use.

A cubin is an ELF file. The parameters of a function stand in its ``.nv.info`` section, as records of format, attribute
and value; the meaning of the fields was compared with what ``cuobjdump -elf`` prints of the same files.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from mmedge_kernels.aot.tools import run_tool, tools_folder
from mmedge_kernels.errors import CompileError

_CUDA_MACHINE = 190
_SECTION_BYTES = 64
_NEW_ABI = 8  # since CUDA 13: the architecture moved to another byte of the flags
_SIZED_VALUE = 4
_PARAMETER_INFO = 0x17
_RESOURCES = re.compile(r"Function (\S+):\s*\n\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass(frozen=True)
class CubinParameter:
    """Place and size of a parameter in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Resources:
    """Per thread: registers, and bytes of memory for what they did not hold. static_shared: bytes a block."""

    registers: int
    stack_bytes: int
    static_shared: int


def cubin_architecture(cubin: bytes) -> int:
    """The architecture of the machine code, such as 87. Raises CompileError when the bytes are no cubin."""
    if len(cubin) < _SECTION_BYTES or cubin[:5] != b"\x7fELF\x02":
        raise CompileError("the compiler gave no cubin: the bytes are no 64-bit ELF file")
    (machine,) = struct.unpack_from("<H", cubin, 18)
    (flags,) = struct.unpack_from("<I", cubin, 48)
    if machine != _CUDA_MACHINE:
        raise CompileError(f"the compiler gave no cubin: the ELF file is for machine {machine}")
    return int(flags >> 8 if cubin[8] >= _NEW_ABI else flags) & 0xFF


def cubin_parameters(cubin: bytes, entry: str) -> tuple[CubinParameter, ...]:
    """The parameters of the function `entry`, in order. Raises CompileError when the cubin does not name them."""
    cubin_architecture(cubin)
    try:
        info = _section(cubin, f".nv.info.{entry}")
        found = dict(_parameter_records(info))
    except (struct.error, IndexError, ValueError) as error:
        raise CompileError(f"the cubin of {entry} is damaged: {error}") from error
    if sorted(found) != list(range(len(found))):
        raise CompileError(f"the cubin of {entry} names the parameters {sorted(found)}, not all from 0 on")
    return tuple(found[i] for i in range(len(found)))


def read_resources(cubin: Path, entry: str) -> Resources:
    """What `entry` uses, by cuobjdump. Raises CompileError when it says nothing of it."""
    said = run_tool(tools_folder() / "cuobjdump", "--dump-resource-usage", str(cubin))
    for name, registers, stack, shared, local in _RESOURCES.findall(said):
        if name == entry:
            return Resources(int(registers), int(stack) + int(local), int(shared))
    raise CompileError(f"cuobjdump says nothing of {entry}: {said.strip()[-400:]}")


def _section(cubin: bytes, wanted: str) -> bytes:
    (table,) = struct.unpack_from("<Q", cubin, 40)
    count, names_index = struct.unpack_from("<HH", cubin, 60)
    headers = [struct.unpack_from("<IIQQQQ", cubin, table + i * _SECTION_BYTES) for i in range(count)]
    names_at, names_size = headers[names_index][4:6]
    names = cubin[names_at : names_at + names_size]
    for name_at, _, _, _, offset, size in headers:
        if names[name_at : names.index(b"\0", name_at)].decode() == wanted:
            return cubin[offset : offset + size]
    raise ValueError(f"it has no section {wanted}")


def _parameter_records(info: bytes) -> list[tuple[int, CubinParameter]]:
    found, at = [], 0
    while at < len(info):
        form, attribute, value = struct.unpack_from("<BBH", info, at)
        at += 4
        if form != _SIZED_VALUE:
            continue
        if attribute == _PARAMETER_INFO:
            _, ordinal, offset, packed = struct.unpack_from("<IHHI", info, at)
            found.append((ordinal, CubinParameter(offset, packed >> 18)))
        at += value
    return found
