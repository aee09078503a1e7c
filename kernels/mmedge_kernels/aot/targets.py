"""What kernels are compiled for: GPU architectures, and the oldest driver that has to load the result.

Sources: NVIDIA's PTX ISA reference (release history: CUDA version -> PTX version -> architectures), the CUDA
compatibility guide (machine code of an assembler runs on drivers of its own CUDA major version or a newer one, PTX must
not be newer than the driver), and the CUDA programming guide (shared memory per block).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mmedge_kernels.errors import CompileError

Version = tuple[int, int]


@dataclass(frozen=True)
class Architecture:
    """A GPU architecture. cuda: the first CUDA version whose driver and tools know it. shared: most bytes a block."""

    cuda: Version
    shared: int


@dataclass(frozen=True)
class Target:
    """A name for one or several GPU architectures under one kind of driver.

    sms: such as 87. cuda: CUDA version of the oldest driver that has to load the result. note: what it stands for.
    """

    name: str
    sms: tuple[int, ...]
    cuda: Version
    note: str

    @property
    def ptx(self) -> Version:
        """The newest PTX ISA version that such a driver takes."""
        return ptx_version(self.cuda)


ARCHITECTURES: Mapping[int, Architecture] = {
    75: Architecture((10, 0), 64 << 10),
    80: Architecture((11, 0), 163 << 10),
    86: Architecture((11, 1), 99 << 10),
    87: Architecture((11, 4), 163 << 10),
    89: Architecture((11, 8), 99 << 10),
    90: Architecture((12, 0), 227 << 10),
    100: Architecture((12, 8), 227 << 10),
    103: Architecture((12, 9), 227 << 10),
    110: Architecture((13, 0), 227 << 10),
    120: Architecture((12, 8), 99 << 10),
    121: Architecture((12, 9), 99 << 10),
}

# CUDA versions that brought a new PTX ISA; those between keep the one before.
_PTX_VERSIONS: tuple[tuple[Version, Version], ...] = (
    *(((12, minor), (8, minor)) for minor in range(6)),
    ((12, 7), (8, 6)),
    ((12, 8), (8, 7)),
    ((12, 9), (8, 8)),
    *(((13, minor), (9, minor)) for minor in range(6)),
)

_OLDEST_CUDA = (12, 6)  # for architectures that are named by themselves: what JetPack 6 has

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("jetson-orin-jp6", (87,), (12, 6), "Jetson Orin, JetPack 6"),
        Target("jetson-orin-jp7", (87,), (13, 0), "Jetson Orin, JetPack 7"),
        Target("jetson-thor", (110,), (13, 0), "Jetson Thor, JetPack 7"),
        Target("rtx", (75, 86, 89, 120), (12, 8), "GeForce and RTX cards from Turing on, driver 570 and newer"),
        Target("dgx-spark", (121,), (13, 0), "DGX Spark"),
        Target("datacenter", (80, 90), (12, 6), "A100, H100, H200, driver 560 and newer"),
    )
}


def ptx_version(cuda: Version) -> Version:
    """The newest PTX ISA version that a driver of a CUDA version takes. Raises CompileError for CUDA before 12."""
    fitting = [ptx for since, ptx in _PTX_VERSIONS if since <= cuda]
    if not fitting:
        raise CompileError(f"drivers from CUDA 12.0 on are supported, got {cuda[0]}.{cuda[1]}")
    return fitting[-1]


def find_target(name: str) -> Target:
    """The target called `name`: one of `TARGETS`, or ``sm_87`` for one architecture under any driver that knows it.

    Raises CompileError for an unknown name.
    """
    if name in TARGETS:
        return TARGETS[name]
    digits = name.removeprefix("sm_")
    if name.startswith("sm_") and digits.isdecimal() and int(digits) in ARCHITECTURES:
        sm = int(digits)
        cuda = max(_OLDEST_CUDA, ARCHITECTURES[sm].cuda)
        return Target(f"sm_{sm}", (sm,), cuda, f"drivers of CUDA {cuda[0]}.{cuda[1]} and newer")
    known = ", ".join([*TARGETS, *(f"sm_{sm}" for sm in ARCHITECTURES)])
    raise CompileError(f"unknown target {name!r:.80}; take one of: {known}")


def drivers_by_sm(targets: Iterable[Target]) -> dict[int, Version]:
    """Architecture -> the oldest CUDA version among the targets that want it, in the order of the architectures."""
    oldest: dict[int, Version] = {}
    for target in targets:
        for sm in target.sms:
            oldest[sm] = min(target.cuda, oldest.get(sm, target.cuda))
    return dict(sorted(oldest.items()))
