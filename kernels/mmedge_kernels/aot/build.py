"""From names of targets to a kernel pack."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mmedge_kernels.aot.collect import collect_specs, image_contracts
from mmedge_kernels.aot.compile import CompiledKernel, compile_kernels
from mmedge_kernels.aot.jobs import make_jobs
from mmedge_kernels.aot.report import spill_messages
from mmedge_kernels.aot.targets import Target, drivers_by_sm, find_target
from mmedge_kernels.aot.write import check_place, write_pack
from mmedge_kernels.errors import CompileError
from mmedge_kernels.pack.reading import KernelPack, open_pack
from mmedge_kernels.specification import KernelSpec


def build_pack(
    out: str | os.PathLike[str],
    targets: Sequence[str | Target],
    *,
    specs: Iterable[KernelSpec] | None = None,
    operators: Sequence[str] | None = None,
    bundles: Sequence[str | os.PathLike[str]] = (),
    at_once: int | None = None,
) -> KernelPack:
    """Compile kernels for `targets`, write them as the folder `out`, and open that.

    specs: what to compile; None: the standard kernels of `operators` (None: of all), and what the image inputs of
    `bundles` need. at_once: compilers that run at the same time; None: one a processor.
    Raises CompileError when a kernel cannot be compiled or spills although it is built not to, and PackError when `out`
    cannot be written; then nothing is written.
    """
    place = Path(out)
    check_place(place)
    found = [find_target(target) if isinstance(target, str) else target for target in targets]
    chosen = gather_specs(found, operators, bundles) if specs is None else specs
    compiled = compile_for(found, chosen, at_once=at_once)
    check_spills(compiled)
    write_pack(place, compiled, found)
    return open_pack(place)


def gather_specs(
    targets: Sequence[Target], operators: Sequence[str] | None, bundles: Sequence[str | os.PathLike[str]]
) -> tuple[KernelSpec, ...]:
    """The standard kernels of `operators` for the targets, and those of the bundles. Raises CompileError."""
    contracts = [contract for bundle in bundles for contract in image_contracts(Path(bundle))]
    return collect_specs(list(drivers_by_sm(targets)), operators, contracts)


def compile_for(
    targets: Sequence[Target],
    specs: Iterable[KernelSpec],
    *,
    at_once: int | None = None,
    done: Callable[[CompiledKernel, int], None] | None = None,
) -> list[CompiledKernel]:
    """Compile `specs` for `targets`; done: called with each result and the number of all. Raises CompileError."""
    if not targets:
        raise CompileError("name at least one target")
    jobs = make_jobs(specs, targets)
    tell = None if done is None else (lambda compiled: done(compiled, len(jobs)))
    return compile_kernels(jobs, at_once=at_once, done=tell)


def check_spills(compiled: Iterable[CompiledKernel]) -> None:
    """Raises CompileError when a kernel that is built to keep everything in registers does not."""
    spills = spill_messages(each.kernel for each in compiled)
    if spills:
        raise CompileError("registers are spilled to memory:\n" + "\n".join(spills))
