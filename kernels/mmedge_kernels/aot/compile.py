"""Compiling kernels, each in a process of its own, and comparing what came out with what will be launched."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmedge_kernels.aot.cubin import (
    CubinParameter,
    Resources,
    cubin_architecture,
    cubin_parameters,
    read_resources,
)
from mmedge_kernels.aot.jobs import Job, specs_to_json
from mmedge_kernels.aot.processes import TIMEOUT_S, Workers
from mmedge_kernels.aot.targets import ARCHITECTURES, ptx_version
from mmedge_kernels.aot.tools import Assembler, choose_assembler, run_tool
from mmedge_kernels.errors import CompileError, PackError
from mmedge_kernels.pack.manifest import PackedFile, PackedKernel
from mmedge_kernels.pack.ptx import PtxKernel, read_ptx, without_trailing_parameters
from mmedge_kernels.specification import Parameter

PLUGIN_SHARED_LIMIT = 48 << 10
"""Bytes of shared memory that an engine gives a plugin's kernel without having been asked for more."""

SCRATCH = ("global_scratch", "profile_scratch")
"""The pointers that Triton adds behind a kernel's own parameters."""

_RESERVED_SHARED = 1024  # bytes a block that CUDA keeps for itself; the tools count them from sm_90 on
_FAILURES_SHOWN = 5


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel, its machine code, and its PTX where a plugin wants it. triton: the version that compiled it."""

    kernel: PackedKernel
    cubin: bytes
    ptx: bytes | None
    triton: str


def compile_kernels(
    jobs: Sequence[Job],
    *,
    at_once: int | None = None,
    timeout_s: float = TIMEOUT_S,
    done: Callable[[CompiledKernel], None] | None = None,
) -> list[CompiledKernel]:
    """Compile every job; results in the order of the jobs.

    at_once: processes that run at the same time; None: one a processor. timeout_s: for each. done: called with each
    result as it comes, from several threads.
    Raises CompileError that names each kernel and architecture that failed, and what the compiler said.
    """
    at_once = at_once or len(os.sched_getaffinity(0))
    failures: list[CompileError] = []

    def attempt(job: Job) -> CompiledKernel | None:
        try:
            compiled = compile_kernel(job, workers)
        except CompileError as error:
            failures.append(error)
            return None
        if done is not None:
            done(compiled)
        return compiled

    with Workers(timeout_s) as workers, ThreadPoolExecutor(at_once) as threads:
        futures = [threads.submit(attempt, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # Ctrl-C too: nothing may go on compiling behind the prompt
            workers.close()
            threads.shutdown(cancel_futures=True)
            raise
    if failures:
        raise _together(failures, len(jobs))
    return [result for future in futures if (result := future.result()) is not None]


def compile_kernel(job: Job, workers: Workers) -> CompiledKernel:
    """Compile one job. Raises CompileError, also when the code is not as the specification says."""
    assembler = choose_assembler(job.sm, job.cuda)
    ptx = ptx_version(min(job.cuda, assembler.cuda))
    request = {"specs": specs_to_json([job.spec]), "sm": job.sm, "ptx": ptx[0] * 10 + ptx[1]}
    tools = {"TRITON_PTXAS_PATH": str(assembler.path), "TRITON_PTXAS_BLACKWELL_PATH": str(assembler.path)}
    try:
        with tempfile.TemporaryDirectory(prefix="mmedge-aot-") as temporary:
            workers.run(request, Path(temporary), tools)
            return _checked(job, assembler, Path(temporary))
    except (CompileError, PackError, OSError) as error:  # OSError: no room for temporary files
        raise CompileError(f"{job}: {error}") from error


def _checked(job: Job, assembler: Assembler, folder: Path) -> CompiledKernel:
    facts = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
    cubin = (folder / "kernel.cubin").read_bytes()
    text = (folder / "kernel.ptx").read_text(encoding="utf-8")
    _check_launch(facts)
    ptx = read_ptx(text)
    _check_parameters(job, facts["entry"], ptx, cubin)
    resources = read_resources(folder / "kernel.cubin", ptx.entry)
    _check_shared(job, facts["shared"], resources)
    plugin = _plugin_ptx(job, text, assembler, folder) if job.spec.plugin else None
    stem = f"{job.spec.name}-sm{job.sm}"
    kernel = PackedKernel(
        operator=job.spec.operator,
        name=job.spec.name,
        sm=job.sm,
        architecture=ptx.target,
        entry=ptx.entry,
        parameters=job.spec.parameters,
        scratch=SCRATCH,
        constants=dict(job.spec.constants),
        grid=job.spec.grid,
        warps=facts["warps"],
        shared_bytes=facts["shared"],
        registers=resources.registers,
        stack_bytes=resources.stack_bytes,
        spill_free=job.spec.spill_free,
        ptx_version=ptx.version,
        toolkit=f"{assembler.cuda[0]}.{assembler.cuda[1]}",
        cubin=_file(f"{stem}.cubin", cubin),
        ptx=None if plugin is None else _file(f"{stem}.ptx", plugin),
    )
    return CompiledKernel(kernel, cubin, plugin, facts["triton"])


def _check_launch(facts: dict[str, Any]) -> None:
    """A pack launches with pointers, numbers and null for the scratch pointers, and nothing else."""
    used = {name: size for name, size in facts["scratch"].items() if size}
    if used:
        sizes = ", ".join(f"{name} of {size} bytes" for name, size in used.items())
        raise CompileError(f"it needs {sizes}, which a pack does not give; write it without (tensor descriptors?)")
    special = [name for name in ("cooperative", "dependent", "tensor_descriptors") if facts[name]]
    if facts["blocks_in_cluster"] != 1:
        special.append("blocks_in_cluster")
    if special:
        raise CompileError(f"it needs a launch that a pack does not do: {', '.join(special)}")


def _check_parameters(job: Job, entry: str, ptx: PtxKernel, cubin: bytes) -> None:
    """The launch packs arguments by the specification: text and machine code must both expect just these."""
    expected = ["pointer" if p.is_pointer else "i32" for p in job.spec.parameters] + ["pointer"] * len(SCRATCH)
    found = [parameter.kind for parameter in ptx.parameters]
    if ptx.entry != entry or found != expected:
        raise CompileError(f"the PTX has {ptx.entry}({', '.join(found)}), expected {entry}({', '.join(expected)})")
    wanted = _layout(expected)
    placed = cubin_parameters(cubin, entry)
    if placed != wanted:
        raise CompileError(f"the machine code expects its parameters at {placed}, the launch puts them at {wanted}")
    if ptx.target.removesuffix("a") != f"sm_{job.sm}" or cubin_architecture(cubin) != job.sm:
        raise CompileError(f"it was compiled for {ptx.target} and {cubin_architecture(cubin)}, expected sm_{job.sm}")


def _layout(kinds: Sequence[str]) -> tuple[CubinParameter, ...]:
    """Each parameter at the next multiple of its own size, as `struct` does it too."""
    places, at = [], 0
    for kind in kinds:
        size = 8 if kind == "pointer" else 4
        at = -(-at // size) * size
        places.append(CubinParameter(at, size))
        at += size
    return tuple(places)


def _check_shared(job: Job, shared: int, resources: Resources) -> None:
    if resources.static_shared not in (0, _RESERVED_SHARED):
        raise CompileError(f"it has {resources.static_shared} bytes of static shared memory, expected none")
    limit = ARCHITECTURES[job.sm].shared
    if shared > limit:
        raise CompileError(f"it needs {shared} bytes of shared memory, sm_{job.sm} has {limit}: take smaller blocks")
    if job.spec.plugin and shared > PLUGIN_SHARED_LIMIT:
        raise CompileError(
            f"it needs {shared} bytes of shared memory, a plugin has {PLUGIN_SHARED_LIMIT}: take smaller blocks, or "
            "plugin=False"
        )


def _plugin_ptx(job: Job, text: str, assembler: Assembler, folder: Path) -> bytes:
    """The PTX without the scratch parameters, which an engine does not pass; assembled once, to see that it holds."""
    plugin = without_trailing_parameters(text, len(SCRATCH))
    ptx = read_ptx(plugin)
    source, out = folder / "plugin.ptx", folder / "plugin.cubin"
    source.write_text(plugin, encoding="utf-8")
    run_tool(assembler.path, f"--gpu-name={ptx.target}", str(source), "-o", str(out))
    expected = _layout([_kind(parameter) for parameter in job.spec.parameters])
    if cubin_parameters(out.read_bytes(), ptx.entry) != expected:
        raise CompileError("the PTX for plugins does not have the parameters of the specification")
    return plugin.encode()


def _kind(parameter: Parameter) -> str:
    return "pointer" if parameter.is_pointer else "i32"


def _file(name: str, data: bytes) -> PackedFile:
    return PackedFile(name, len(data), hashlib.sha256(data).hexdigest())


def _together(failures: Sequence[CompileError], jobs: int) -> CompileError:
    different = list(dict.fromkeys(map(str, failures)))  # a missing tool fails every kernel in the same words
    shown = "\n".join(different[:_FAILURES_SHOWN])
    more = f"\nand {len(different) - _FAILURES_SHOWN} more" if len(different) > _FAILURES_SHOWN else ""
    return CompileError(f"{len(failures)} of {jobs} kernels cannot be compiled:\n{shown}{more}")
