"""NVIDIA's command-line tools that Triton's wheel brings along: which there are, and what they can do."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mmedge_kernels.aot.targets import ARCHITECTURES, Version
from mmedge_kernels.errors import CompileError

_ASSEMBLERS = ("ptxas", "ptxas-blackwell")
_TIMEOUT_S = 300


@dataclass(frozen=True)
class Assembler:
    """A ptxas and the CUDA version that it belongs to."""

    path: Path
    cuda: Version


def choose_assembler(sm: int, driver: Version) -> Assembler:
    """The newest ptxas that knows `sm` and whose machine code a driver of CUDA version `driver` loads.

    A driver loads what assemblers of its own CUDA major version make, and of older ones.
    Raises CompileError when Triton is not installed, or brings none that fits.
    """
    found = assemblers()
    since = ARCHITECTURES[sm].cuda
    fitting = [a for a in found if since <= a.cuda and a.cuda[0] <= driver[0]]
    if fitting:
        return max(fitting, key=lambda assembler: assembler.cuda)
    have = " and ".join(f"{a.cuda[0]}.{a.cuda[1]}" for a in found)
    raise CompileError(
        f"sm_{sm} under drivers of CUDA {driver[0]}.{driver[1]} needs a ptxas of CUDA {since[0]}.{since[1]} to "
        f"{driver[0]}.x; the installed Triton brings {have}: install a newer one"
    )


@functools.cache
def assemblers() -> tuple[Assembler, ...]:
    """Every ptxas of the installed Triton. Raises CompileError when there is none."""
    paths = [path for name in _ASSEMBLERS if (path := tools_folder() / name).is_file()]
    if not paths:
        raise CompileError(f"Triton has no ptxas in {tools_folder()}: install a wheel of Triton")
    return tuple(Assembler(path, _cuda_version(path)) for path in paths)


@functools.cache
def tools_folder() -> Path:
    """The folder of the tools. Triton is looked up, not imported. Raises CompileError when it is not installed."""
    found = importlib.util.find_spec("triton")
    if found is None or not found.submodule_search_locations:
        raise CompileError("compiling kernels needs Triton: install it with: pip install 'triton>=3.6'")
    return Path(next(iter(found.submodule_search_locations))) / "backends" / "nvidia" / "bin"


def run_tool(path: Path, *arguments: str) -> str:
    """What the tool prints. Raises CompileError when it fails, with what it said."""
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{path.name} did not run: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise CompileError(f"{path.name} failed with status {done.returncode}: {said[-2000:]}")
    return done.stdout


def _cuda_version(path: Path) -> Version:
    said = run_tool(path, "--version")
    match = re.search(r"release (\d+)\.(\d+)", said)
    if match is None:
        raise CompileError(f"{path.name} --version names no CUDA release: {said.strip()[-200:]}")
    return int(match[1]), int(match[2])
