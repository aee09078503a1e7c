"""What pack.json holds: every kernel with all that its launch needs, in checked objects."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmedge_kernels.errors import PackError
from mmedge_kernels.pack import fields as checked
from mmedge_kernels.pack.architectures import parse_architecture
from mmedge_kernels.pack.fields import Fields
from mmedge_kernels.specification import Constant, GridAxis, Parameter

FORMAT = 1
"""The format of pack.json that this version writes, and the only one that it reads."""

ELEMENT_BYTES: Mapping[str, int] = {
    **{"i1": 1, "i8": 1, "u8": 1, "i16": 2, "fp16": 2, "bf16": 2},
    **{"i32": 4, "fp32": 4, "i64": 8, "fp64": 8},
}
"""Size of an element behind a pointer, by its type."""

FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
KERNEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,150}")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,255}")
_WORD = re.compile(r"[A-Za-z0-9 ._+-]{1,100}")
_TYPE = re.compile(r"i32|\*(" + "|".join(ELEMENT_BYTES) + ")")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,2}\.[0-9]{1,2}")
_ARCHITECTURE = re.compile(r"sm_[0-9]{2,3}a?")
_LARGEST_FILE = 64 << 20
_LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class PackedFile:
    """A file of the pack: its name in the folder, its size in bytes, its SHA-256 in hex."""

    file: str
    size: int
    sha256: str

    @staticmethod
    def read(value: object, place: str) -> PackedFile:
        fields = Fields(value, place)
        return PackedFile(
            fields.text("file", FILE_NAME), fields.integer("size", 1, _LARGEST_FILE), fields.text("sha256", _SHA256)
        )


@dataclass(frozen=True)
class PackTarget:
    """What the pack was made for. cuda: the oldest driver's CUDA version. ptx: the PTX ISA that this driver takes."""

    name: str
    sms: tuple[int, ...]
    cuda: str
    ptx: str

    @staticmethod
    def read(value: object, place: str) -> PackTarget:
        fields = Fields(value, place)
        return PackTarget(
            fields.text("name", KERNEL_NAME),
            fields.each("sms", lambda item, at: checked.integer(item, at, 10, 999)),
            fields.text("cuda", _VERSION),
            fields.text("ptx", _VERSION),
        )


@dataclass(frozen=True)
class PackedKernel:
    """One compiled kernel for one architecture.

    architecture: of the machine code, such as ``sm_87`` or ``sm_90a``. entry: name of the function in the cubin.
    parameters: in order; scratch: names of the pointers that the compiler adds behind them, to be passed as null.
    shared_bytes: dynamic shared memory of a launch. stack_bytes: spilled registers, per thread. toolkit: CUDA version
    of the assembler that made the cubin; the driver's major version must not be below it. ptx_version: PTX ISA.
    ptx: for engines; without the scratch parameters. None where no plugin wants it.
    """

    operator: str
    name: str
    sm: int
    architecture: str
    entry: str
    parameters: tuple[Parameter, ...]
    scratch: tuple[str, ...]
    constants: Mapping[str, Constant]
    grid: tuple[GridAxis, ...]
    warps: int
    shared_bytes: int
    registers: int
    stack_bytes: int
    spill_free: bool
    ptx_version: str
    toolkit: str
    cubin: PackedFile
    ptx: PackedFile | None

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the whole numbers that a launch needs: the kernel's own, then those of the grid alone."""
        own = [parameter.name for parameter in self.parameters if not parameter.is_pointer]
        grid = [name for axis in self.grid for name in axis.product if name not in self.constants]
        return tuple(dict.fromkeys([*own, *grid]))

    @property
    def spills(self) -> bool:
        """Whether registers are kept in memory although the kernel is built to need none."""
        return self.spill_free and self.stack_bytes > 0

    @staticmethod
    def read(value: object, place: str) -> PackedKernel:
        fields = Fields(value, place)
        kernel = PackedKernel(
            operator=fields.text("operator", _IDENTIFIER),
            name=fields.text("name", KERNEL_NAME),
            sm=fields.integer("sm", 10, 999),
            architecture=fields.text("architecture", _ARCHITECTURE),
            entry=fields.text("entry", _IDENTIFIER),
            parameters=fields.each("parameters", _parameter),
            scratch=fields.each("scratch", lambda item, at: checked.text(item, at, _IDENTIFIER)),
            constants=fields.one("constants", _constants),
            grid=fields.each("grid", _axis),
            warps=fields.integer("warps", 1, 32),
            shared_bytes=fields.integer("shared_bytes", 0, 1 << 20),
            registers=fields.integer("registers", 0, 255),
            stack_bytes=fields.integer("stack_bytes", 0, 1 << 24),
            spill_free=fields.boolean("spill_free"),
            ptx_version=fields.text("ptx_version", _VERSION),
            toolkit=fields.text("toolkit", _VERSION),
            cubin=fields.one("cubin", PackedFile.read),
            ptx=fields.one("ptx", lambda item, at: None if item is None else PackedFile.read(item, at)),
        )
        names = [parameter.name for parameter in kernel.parameters]
        if len(set(names)) != len(names) or not 1 <= len(kernel.grid) <= 3:
            raise PackError(f"pack.json: {place} needs parameters of different names and 1 to 3 grid axes")
        if parse_architecture(kernel.architecture)[0] != kernel.sm:
            raise PackError(f"pack.json: {place} is for sm {kernel.sm} and has code for {kernel.architecture}")
        return kernel


@dataclass(frozen=True)
class Manifest:
    """All of pack.json. producer: what made the pack, tool -> version."""

    producer: Mapping[str, str]
    targets: tuple[PackTarget, ...]
    kernels: tuple[PackedKernel, ...]

    def dumps(self) -> str:
        """As pack.json holds it: one kernel a line, the same text for the same content."""
        head = {"format": FORMAT, "producer": dict(self.producer), "targets": [asdict(t) for t in self.targets]}
        kernels = ",\n".join("  " + json.dumps(_plain(kernel), allow_nan=False) for kernel in self.kernels)
        return f'{json.dumps(head, allow_nan=False)[:-1]}, "kernels": [\n{kernels}\n]}}\n'

    @staticmethod
    def loads(text: str) -> Manifest:
        """Raises PackError for anything that `dumps` does not write."""
        try:
            value = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise PackError(f"pack.json is no JSON: {error}; copy or make the pack again") from error
        fields = Fields(value, "pack")
        found = fields.integer("format", 1, _LARGEST_NUMBER)
        if found != FORMAT:
            raise PackError(f"pack.json has format {found}, this version reads format {FORMAT}: make the pack again")
        manifest = Manifest(
            fields.one("producer", _producer), fields.each("targets", PackTarget.read),
            fields.each("kernels", PackedKernel.read),
        )  # fmt: skip
        times = Counter((kernel.name, kernel.sm) for kernel in manifest.kernels)
        twice = [f"{name} for sm_{sm}" for (name, sm), count in times.items() if count > 1]
        if twice:
            raise PackError(f"pack.json lists twice: {', '.join(twice)}; make the pack again")
        return manifest


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _plain(kernel: PackedKernel) -> dict[str, Any]:
    return {**asdict(kernel), "constants": dict(kernel.constants)}


def _parameter(value: object, place: str) -> Parameter:
    fields = Fields(value, place)
    return Parameter(
        fields.text("name", _IDENTIFIER), fields.text("type", _TYPE), fields.boolean("aligned"),
        fields.each("shape", lambda item, at: _size(item, at)),
    )  # fmt: skip


def _size(value: object, place: str) -> int | str:
    if isinstance(value, str):
        return checked.text(value, place, _IDENTIFIER)
    return checked.integer(value, place, 1, _LARGEST_NUMBER)


def _axis(value: object, place: str) -> GridAxis:
    fields = Fields(value, place)
    names = fields.each("product", lambda item, at: checked.text(item, at, _IDENTIFIER))
    return GridAxis(names, fields.integer("divisor", 1, _LARGEST_NUMBER))


def _constants(value: object, place: str) -> dict[str, Constant]:
    constants = Fields(value, place).items()
    for name, constant in constants.items():
        if constant is not None and not isinstance(constant, (int, float, str)):
            raise PackError(f"pack.json: {place}.{name} must be a number, a string or null, got {constant!r:.80}")
    return constants


def _producer(value: object, place: str) -> dict[str, str]:
    tools = Fields(value, place).items()
    return {tool: checked.text(version, f"{place}.{tool}", _WORD) for tool, version in tools.items()}
