"""ONNX Runtime: the embedded default. CPU, and CUDA where the installed build has it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import onnxruntime as ort

from mmedge.engines import Array, EngineStage, StageModel, check_names, one_line
from mmedge.errors import EngineError

_log = logging.getLogger("mmedge")

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
"""Device -> provider, best first."""

_ERRORS_ONLY = 3


def create(device: str | None, threads: int | None) -> OnnxRuntimeEngine:
    """ONNX Runtime on `device` (``cpu`` or ``cuda``), or on the best that works."""
    available = ort.get_available_providers()
    if device is None:
        device = next(name for name, provider in _PROVIDERS.items() if provider in available)
        return OnnxRuntimeEngine(device, threads, strict=False)
    if _PROVIDERS.get(device) not in available:
        raise EngineError(
            f"onnxruntime {ort.__version__} cannot run on {device!r}: devices are {', '.join(_PROVIDERS)}, and this "
            f"build has {', '.join(available)}; for CUDA install onnxruntime-gpu in place of onnxruntime"
        )
    return OnnxRuntimeEngine(device, threads, strict=True)


class OnnxRuntimeEngine:
    """Loads each stage as one session.

    Args:
        device: Key of `_PROVIDERS`.
        threads: Threads of one session, None for one per physical core.
        strict: A stage that does not run on `device` is an error; otherwise it runs on the CPU, and the log says so.
    """

    def __init__(self, device: str, threads: int | None, *, strict: bool) -> None:
        self.identity = f"onnxruntime {ort.__version__} {device}"
        self.static_shapes = False
        self._device = device
        self._threads = threads
        self._strict = strict

    def load(self, model: StageModel) -> EngineStage:
        if model.compute != "fp32":
            raise EngineError(
                f"variant {model.precision!r} wants float32 rounded to {model.compute} by the engine, and onnxruntime "
                "computes what the graph says; choose another variant, or openvino where the processor has "
                f"{model.compute}"
            )
        try:
            return self._load(model, self._device)
        except EngineError as error:
            if self._strict or self._device == "cpu":
                raise
            _log.warning("stage %s runs on the CPU: %s", model.stage.name, error)
            return self._load(model, "cpu")

    def close(self) -> None:
        """Nothing goes on in the background."""

    def _load(self, model: StageModel, device: str) -> EngineStage:
        wanted = _PROVIDERS[device]
        providers = list(dict.fromkeys((wanted, _PROVIDERS["cpu"])))
        try:
            session = self._session(model, providers)
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            raise EngineError(f"onnxruntime refused stage {model.stage.name!r}: {one_line(error)}") from error
        check_names(model, _names(session.get_inputs()), _names(session.get_outputs()))
        if wanted not in session.get_providers():
            raise EngineError(
                f"stage {model.stage.name!r} was to run on {wanted} and onnxruntime gave it {session.get_providers()}; "
                f"available are {', '.join(ort.get_available_providers())}: look at the CUDA and cuDNN libraries"
            )
        fallbacks = _fallbacks(session, device, model.stage.name)
        if fallbacks:
            _log.warning("stage %s: on the CPU instead of %s: %s", model.stage.name, device, ", ".join(fallbacks))
        return OnnxRuntimeStage(model.stage.name, session, device, fallbacks)

    def _session(self, model: StageModel, providers: list[str]) -> ort.InferenceSession:
        options = _options(self._threads)
        source: bytes | str
        # onnxruntime 1.23, the last for Python 3.10, cannot take external weights from memory.
        if model.weights and not hasattr(options, "add_external_initializers_from_files_in_memory"):
            source = str(model.path())
        else:
            source = bytes(model.onnx)
            if model.weights:
                views = list(model.weights.values())
                sizes = [view.nbytes for view in views]
                options.add_external_initializers_from_files_in_memory(list(model.weights), views, sizes)
        return ort.InferenceSession(source, options, providers=providers, enable_fallback=0)


class OnnxRuntimeStage:
    """One session; see `EngineStage`."""

    def __init__(
        self, name: str, session: ort.InferenceSession, provider: str, fallbacks: tuple[str, ...] | None
    ) -> None:
        self.engine = f"onnxruntime {ort.__version__}"
        self.provider = provider
        self.fallbacks = fallbacks
        self._name = name
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            values = self._session.run(self._outputs, dict(feeds))
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            shapes = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in feeds.items())
            raise EngineError(f"stage {self._name!r} failed on {shapes}: {one_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or 0
    # The threads of a session go on spinning after its run and take the cores from the next stage. Measured on 2 cores
    # with 2 threads, transformer blocks of width 384 over 196 tokens in 3 stages: whole graph 16.4 ms, stages 51.8 ms
    # as they come, 17.2 ms without any spinning, 16.7 ms when spinning stops with the run, 16.2 ms with one global
    # pool. The global pool belongs to the process and to whoever else uses ONNX Runtime in it, so it is left alone.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _names(values: Iterable[Any]) -> set[str]:
    return {value.name for value in values}


def _fallbacks(session: ort.InferenceSession, device: str, stage: str) -> tuple[str, ...] | None:
    """Types of the operators that were placed on the CPU although `device` is another."""
    if device == "cpu":
        return ()
    read: Any = getattr(session, "get_provider_graph_assignment_info", None)
    if read is None:
        return None
    placed = [(part.ep_name, node.op_type) for part in read() for node in part.get_nodes()]
    if placed and not any(provider == _PROVIDERS[device] for provider, _ in placed):
        raise EngineError(
            f"stage {stage!r} was to run on {device}, and onnxruntime placed all {len(placed)} operators on the CPU"
        )
    return tuple(sorted({kind for provider, kind in placed if provider == _PROVIDERS["cpu"]}))
