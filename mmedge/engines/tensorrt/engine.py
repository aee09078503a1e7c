"""The engine: a plan of the bundle, one from the cache, or one that is built while ONNX Runtime serves."""

from __future__ import annotations

import hashlib
import logging

from mmedge.cache import DiskCache, cache_key
from mmedge.engines import EngineStage, StageModel, open_engine
from mmedge.engines.tensorrt.building import BuildCancelledError, Job, build
from mmedge.engines.tensorrt.device import Device
from mmedge.engines.tensorrt.library import Library, open_library
from mmedge.engines.tensorrt.progress import LogLines, Report, shown
from mmedge.engines.tensorrt.running import TensorRtStage
from mmedge.engines.tensorrt.serving import BackgroundBuilds, ServingStage
from mmedge.errors import EngineError, MmedgeError

_log = logging.getLogger("mmedge")


def open_tensorrt(name: str, device: str | None, threads: int | None) -> TensorRtEngine:
    """The engine of library `name` on the GPU of number `device`, the first by default.

    Args:
        threads: Of ONNX Runtime, while it serves.

    Raises:
        EngineError: The library or PyCUDA is not installed, or there is no such GPU.
    """
    ordinal = "0" if device in (None, "cuda") else str(device)
    if not ordinal.isdecimal():
        raise EngineError(f"{name}:{device}: the device must be the number of a GPU, such as {name}:0")
    return TensorRtEngine(open_library(name), Device(int(ordinal)), threads)


class TensorRtEngine:
    """Loads stages as engines; those that are not built yet are served by ONNX Runtime while they are.

    All stages of one engine share a GPU and a stream, so that results of one may stay on the GPU for the next.
    """

    static_shapes = False

    def __init__(self, library: Library, device: Device, threads: int | None = None) -> None:
        self.identity = f"{library.name} {library.version} cuda {device.architecture}"
        self._library = library
        self._device = device
        self._threads = threads
        self._plans = DiskCache("tensorrt")
        self._timings = DiskCache("tensorrt-timings")
        self._builds = BackgroundBuilds()

    def load(self, model: StageModel) -> EngineStage:
        """A stage that can run at once.

        Raises:
            EngineError: The stage wants an arithmetic that is not in its graph, or neither this engine nor ONNX Runtime
                takes it.
        """
        if model.compute != "fp32":
            raise EngineError(
                f"variant {model.precision!r} wants float32 rounded to {model.compute} by the engine, and engines of "
                f"{self._library.name} compute what the graph says; choose a variant whose graph is {model.compute}"
            )
        ready = self._carried(model) or self._cached(model)
        if ready is not None:
            return ready
        try:
            serving = ServingStage(model.stage.name, open_engine("onnxruntime", threads=self._threads).load(model))
        except EngineError as error:
            _log.info("stage %s waits for its engine: %s", model.stage.name, error)
            with shown(f"building stage {model.stage.name}") as report:
                return self._built(model, report)
        _log.info("stage %s runs on %s while its engine is built", model.stage.name, serving.engine)
        # Unpacked now: the bundle may be in use by others when the build begins.
        model.path()
        self._builds.submit(lambda: self._replace(serving, model))
        return serving

    def close(self) -> None:
        """Stop building. Stages that are loaded go on as they are."""
        self._builds.close()

    def _replace(self, serving: ServingStage, model: StageModel) -> None:
        try:
            serving.switch(self._built(model, LogLines(f"building stage {model.stage.name}")))
        except BuildCancelledError as error:
            _log.debug("%s", error)
        except Exception as error:  # whatever it is, what serves must go on serving, and somebody must hear of it
            kind = "" if isinstance(error, MmedgeError) else f"{type(error).__name__}: "
            _log.warning("stage %s stays on %s: %s%s", model.stage.name, serving.engine, kind, error)

    def _built(self, model: StageModel, report: Report) -> TensorRtStage:
        key = self._key(model)
        with self._plans.locked(key):
            # Another process may have been at it.
            ready = self._cached(model)
            if ready is not None:
                return ready
            timings = cache_key(library=self._library.name, version=self._library.version, device=self._machine())
            architecture = self._device.architecture
            job = Job(
                self._library,
                model.stage,
                model.path(),
                model.ranges,
                (architecture,) if architecture in self._library.architectures() else (),
                self._timings.get(timings) or b"",
                # On a Jetson this is the memory of everything else as well.
                self._device.free_bytes() // 2,
            )
            built = build(job, report, self._builds.cancelled, around=self._device.current)
            self._plans.put(key, bytes(built.plan))
            if built.timings:
                self._timings.put(timings, built.timings)
        return TensorRtStage(self._library, self._device, model.stage, built.plan)

    def _carried(self, model: StageModel) -> TensorRtStage | None:
        plan = model.plan(self._library.name, self._library.version, self._device.architecture)
        return None if plan is None else self._try(model, plan, "the bundle")

    def _cached(self, model: StageModel) -> TensorRtStage | None:
        plan = self._plans.get(self._key(model))
        return None if plan is None else self._try(model, plan, "the cache")

    def _try(self, model: StageModel, plan: memoryview | bytes, origin: str) -> TensorRtStage | None:
        try:
            stage = TensorRtStage(self._library, self._device, model.stage, plan)
        except EngineError as error:
            _log.warning("the engine of stage %s from %s is built again: %s", model.stage.name, origin, error)
            return None
        _log.info("stage %s: engine from %s", model.stage.name, origin)
        return stage

    def _key(self, model: StageModel) -> str:
        ranges = sorted((name, axis.least, axis.usual, axis.most) for name, axis in model.ranges.items())
        return cache_key(
            stage=model.sha256 or _content(model),
            precision=model.precision,
            library=self._library.name,
            version=self._library.version,
            device=self._machine(),
            ranges=repr(ranges),
        )

    def _machine(self) -> str:
        return f"{self._device.architecture}, driver {self._device.driver_version}"


def _content(model: StageModel) -> str:
    digest = hashlib.sha256(model.onnx)
    for name in sorted(model.weights):
        digest.update(model.weights[name])
    return digest.hexdigest()
