"""Building one engine, on any thread, with a way to stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmedge.bundle import Stage
from mmedge.engines import AxisRange
from mmedge.engines.tensorrt.library import Library, messages
from mmedge.engines.tensorrt.lifetime import native_call
from mmedge.engines.tensorrt.parsing import parse
from mmedge.engines.tensorrt.profiles import add_profile
from mmedge.engines.tensorrt.progress import Progress, Report, monitor
from mmedge.errors import EngineError


class BuildCancelledError(EngineError):
    """The build was stopped because somebody asked for it."""


@dataclass(frozen=True)
class Job:
    """What is to be built.

    Attributes:
        library: By which library.
        stage: The contract.
        onnx: The graph, beside its weights.
        ranges: By axis name.
        architectures: Such as ``sm_89``; one engine for all of them, with the weights once. () for the GPU of this
            machine.
        timings: What an earlier build of this library measured on this GPU; b"" for nothing.
        workspace: Most bytes of device memory that an operator may use for itself; None leaves it to the library.
    """

    library: Library
    stage: Stage
    onnx: Path
    ranges: Mapping[str, AxisRange]
    architectures: tuple[str, ...] = ()
    timings: bytes = b""
    workspace: int | None = None


@dataclass(frozen=True)
class Built:
    """An engine as bytes. timings: for the next build; b"" where the library keeps none."""

    plan: memoryview
    timings: bytes


def build(
    job: Job,
    report: Report,
    cancelled: threading.Event,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Built:
    """Build an engine. Takes seconds to minutes, during which other threads run.

    Ctrl-C stops the library before it is raised: it comes to this thread, and the library works on another one.

    Args:
        report: Told how far it is, from that other thread.
        cancelled: Set it to stop the build.
        around: What must hold on the other thread, such as the choice of a GPU.

    Raises:
        EngineError: The parser or the builder refused, or the library cannot build for the architecture.
        BuildCancelledError: `cancelled` was set.
    """
    outcome: list[Built | BaseException] = []

    def work() -> None:
        try:
            with around(), native_call():
                outcome.append(_build(job, report, cancelled))
        except BaseException as error:
            outcome.append(error)

    worker = threading.Thread(target=work, name="mmedge-build", daemon=True)
    worker.start()
    try:
        worker.join()
    except BaseException:
        cancelled.set()
        worker.join()
        raise
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _build(job: Job, report: Report, cancelled: threading.Event) -> Built:
    library = job.library
    log = messages(library)
    builder = library.trt.Builder(log)
    network, parser = parse(library, job.onnx, builder, log)
    config = builder.create_builder_config()
    _aim(config, library, job.architectures)
    # On by default: products of float32 would round their inputs to 10 bits, and no longer be those that were verified.
    config.clear_flag(library.trt.BuilderFlag.TF32)
    if job.workspace is not None:
        config.set_memory_pool_limit(library.trt.MemoryPoolType.WORKSPACE, job.workspace)
    add_profile(builder, config, network, job.stage, job.ranges)
    # TensorRT-RTX measures nothing when it builds.
    timings = None if library.name == "tensorrt_rtx" else _timings(config, job.timings)
    progress = Progress(report, cancelled)
    config.progress_monitor = listener = monitor(library, progress)
    log.clear()
    plan = None if cancelled.is_set() else builder.build_serialized_network(network, config)
    # The library holds no references of its own.
    del listener, parser
    if progress.failure is not None:
        raise progress.failure
    if cancelled.is_set():
        raise BuildCancelledError(f"building stage {job.stage.name!r} was stopped")
    if plan is None:
        raise EngineError(f"{library.name} {library.version} did not build stage {job.stage.name!r}: {log.errors()}")
    # The library calls these bytes floats.
    return Built(memoryview(plan).cast("B"), b"" if timings is None else bytes(timings.serialize()))


def _aim(config: Any, library: Library, architectures: tuple[str, ...]) -> None:
    if not architectures:
        return
    known = library.architectures()
    foreign = [architecture for architecture in architectures if architecture not in known]
    if foreign:
        builds = f"builds for {', '.join(known)}" if known else "builds for the GPU of the machine alone"
        raise EngineError(f"{library.name} {library.version} cannot build for {', '.join(foreign)}: it {builds}")
    config.num_compute_capabilities = len(architectures)
    for index, architecture in enumerate(architectures):
        kind = getattr(library.trt.ComputeCapability, architecture.replace("sm_", "SM"))
        if not config.set_compute_capability(kind, index):
            raise EngineError(f"{library.name} {library.version} did not take the architecture {architecture}")


def _timings(config: Any, known: bytes) -> Any:
    cache = config.create_timing_cache(known)
    config.set_timing_cache(cache, False)
    return cache
