"""OpenVINO: Intel's processors, integrated graphics and NPUs, and other x86 and ARM processors.

OpenVINO keeps compiled models in a folder if it is told to (``CACHE_DIR``). mmedge does not tell it to: OpenVINO 2026.4
loads a cached model in which a byte was changed, and computes with it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov

from mmedge.bundle import TensorSpec
from mmedge.engines import Array, EngineStage, StageModel, check_names, one_line
from mmedge.errors import BundleFormatError, EngineError
from mmedge.inputs import numpy_dtype

VERSION = str(ov.__version__).split("-")[0]

_DEVICES = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}
_STATIC = frozenset({"npu"})
"""Devices that take no shape that is open when a model is compiled."""

_COMPUTE = {"fp32": ("FP32", ov.Type.f32), "bf16": ("BF16", ov.Type.bf16), "fp16": ("FP16", ov.Type.f16)}
"""Arithmetic -> the capability that a device must have, and the hint that asks for it."""

_SHAPES_KEPT = 8
_REQUESTS_KEPT = 2
_INT32 = np.iinfo(np.int32)


def create(device: str | None, threads: int | None) -> OpenVinoEngine:
    """OpenVINO on `device`: ``cpu`` (also for None), ``gpu`` (integrated or discrete, Intel's) or ``npu``."""
    name = device or "cpu"
    core = ov.Core()
    available = [str(found) for found in core.available_devices]
    if name not in _DEVICES or not any(found.partition(".")[0] == _DEVICES[name] for found in available):
        raise EngineError(
            f"openvino {VERSION} cannot run on {name!r}: devices are {', '.join(_DEVICES)}, and this machine has "
            f"{', '.join(available) or 'none'}; for gpu and npu install Intel's drivers"
        )
    return OpenVinoEngine(core, name, threads, static_shapes=name in _STATIC)


class OpenVinoEngine:
    """Loads each stage as one compiled model.

    Args:
        core: OpenVINO.
        device: Key of `_DEVICES`.
        threads: CPU threads of one stage, None for OpenVINO's choice; other devices have no use for it.
        static_shapes: Stages are compiled for each shape that comes, and not once for all.
    """

    def __init__(self, core: Any, device: str, threads: int | None, *, static_shapes: bool) -> None:
        self.identity = f"openvino {VERSION} {device}"
        self.static_shapes = static_shapes
        self._core = core
        self._device = device
        self._threads = threads

    def load(self, model: StageModel) -> EngineStage:
        settings = self._settings(model)
        try:
            # From memory only what is whole there: OpenVINO looks for weight files beside the graph's file.
            graph = self._core.read_model(str(model.path()) if model.weights else bytes(model.onnx))
        except RuntimeError as error:
            raise EngineError(f"openvino refused stage {model.stage.name!r}: {one_line(error)}") from error
        # An input that no node uses has no name in the graph any more.
        given = {name for port in graph.inputs for name in port.get_names()}
        unused = {tensor.name for tensor in model.stage.inputs} - given
        check_names(model, given | unused, _output_names(model, graph))
        return OpenVinoStage(self._core, graph, model, self._device, settings, static_shapes=self.static_shapes)

    def close(self) -> None:
        """Nothing goes on in the background."""

    def _settings(self, model: StageModel) -> dict[str, Any]:
        capability, hint = _COMPUTE[model.compute]
        device = _DEVICES[self._device]
        capable = [str(c) for c in self._core.get_property(device, "OPTIMIZATION_CAPABILITIES")]
        if capability not in capable:
            raise EngineError(
                f"variant {model.precision!r} computes in {model.compute}, and openvino's {self._device} here has "
                f"{', '.join(capable)}; choose another variant or device"
            )
        # Without the hint OpenVINO computes in bfloat16 where the processor has it.
        settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if self._device == "cpu":
            # Stages are models of their own: bound to cores, the threads of all of them would share the first cores.
            settings["ENABLE_CPU_PINNING"] = False
            if self._threads is not None:
                settings["INFERENCE_NUM_THREADS"] = self._threads
        return settings


class OpenVinoStage:
    """One graph, compiled once or for each shape; see `EngineStage`."""

    def __init__(
        self,
        core: Any,
        graph: Any,
        model: StageModel,
        device: str,
        settings: Mapping[str, Any],
        *,
        static_shapes: bool,
    ) -> None:
        self.engine = f"openvino {VERSION}"
        self.provider = device
        self.fallbacks: tuple[str, ...] | None = ()  # a device that lacks an operator refuses the whole graph
        self._core = core
        self._graph = graph
        self._settings = settings
        self._name = model.stage.name
        self._inputs = {tensor.name: tensor for tensor in model.stage.inputs}
        self._dtypes = _dtypes(model)
        self._outputs = [tensor.name for tensor in model.stage.outputs]
        self._by_shape = static_shapes and graph.is_dynamic()
        self._compiled: OrderedDict[tuple[tuple[int, ...], ...], _Compiled] = OrderedDict()
        self._lock = threading.Lock()
        if not self._by_shape:
            self._compiled[()] = self._compile(graph)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self._check(feeds)
        try:
            return self._for(feeds).run(feeds)
        except RuntimeError as error:
            raise EngineError(f"stage {self._name!r} failed on {_shown(feeds)}: {one_line(error)}") from error

    def _for(self, feeds: Mapping[str, Array]) -> _Compiled:
        if not self._by_shape:
            return self._compiled[()]
        key = tuple(feeds[name].shape for name in self._inputs)
        with self._lock:
            compiled = self._compiled.get(key)
            if compiled is None:
                graph = self._graph.clone()
                used = {name for port in graph.inputs for name in port.get_names()}
                graph.reshape({name: list(feeds[name].shape) for name in self._inputs if name in used})
                compiled = self._compiled[key] = self._compile(graph)
            self._compiled.move_to_end(key)
            while len(self._compiled) > _SHAPES_KEPT:
                self._compiled.popitem(last=False)
        return compiled

    def _compile(self, graph: Any) -> _Compiled:
        device = _DEVICES[self.provider]
        try:
            compiled = self._core.compile_model(graph, device, dict(self._settings))
        except RuntimeError as error:
            raise EngineError(f"openvino refused stage {self._name!r} on {self.provider}: {one_line(error)}") from error
        places = [str(place) for place in compiled.get_property("EXECUTION_DEVICES")]
        if any(place.partition(".")[0] != device for place in places):
            raise EngineError(f"stage {self._name!r} was to run on {device}, and openvino placed it on {places}")
        wanted, got = self._settings["INFERENCE_PRECISION_HINT"], compiled.get_property("INFERENCE_PRECISION_HINT")
        if got != wanted:
            raise EngineError(f"stage {self._name!r} was to compute in {wanted}, and openvino took {got}")
        return _Compiled(compiled, self._outputs)

    def _check(self, feeds: Mapping[str, Array]) -> None:
        """OpenVINO converts dtypes and takes other shapes without a word, with results that mean nothing."""
        if set(feeds) != set(self._inputs):
            raise EngineError(f"stage {self._name!r} failed: it takes {sorted(self._inputs)}, got {sorted(feeds)}")
        for name, spec in self._inputs.items():
            array = feeds[name]
            if array.dtype != self._dtypes[name] or not _fits(array.shape, spec):
                raise EngineError(
                    f"stage {self._name!r} failed on {_shown(feeds)}: {name} must be {spec.dtype} {list(spec.shape)}"
                )
            # Its processors' kernels hold indices in 32 bits, and larger ones would lose their upper half.
            if array.dtype == np.int64 and array.size and (array.min() < _INT32.min or array.max() > _INT32.max):
                raise EngineError(
                    f"stage {self._name!r} failed: {name} holds integers beyond 32 bits, which openvino cannot hold; "
                    "use onnxruntime for this stage"
                )


class _Compiled:
    """A compiled model and its idle infer requests: each serves one run at a time."""

    def __init__(self, compiled: Any, outputs: list[str]) -> None:
        self._compiled = compiled
        self._used = {name for port in compiled.inputs for name in port.get_names()}
        names = [set(port.get_names()) for port in compiled.outputs]
        self._outputs = {name: next(i for i, known in enumerate(names) if name in known) for name in outputs}
        self._idle: list[Any] = []
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:
            request = self._idle.pop() if self._idle else None
        if request is None:
            request = self._compiled.create_infer_request()
        given = {name: array for name, array in feeds.items() if name in self._used}
        results = request.infer(given, share_inputs=True, share_outputs=True)
        # The results are views of the request's own buffers.
        outputs = {name: np.array(results[index]) for name, index in self._outputs.items()}
        with self._lock:
            if len(self._idle) < _REQUESTS_KEPT:
                self._idle.append(request)
        return outputs


def _output_names(model: StageModel, graph: Any) -> set[str]:
    """The promised outputs that the graph has, and those that it has beyond them."""
    ports = [set(port.get_names()) for port in graph.outputs]
    promised = {tensor.name for tensor in model.stage.outputs}
    found = promised & set().union(*ports)
    return found | {min(names) for names in ports if names and not names & promised}


def _dtypes(model: StageModel) -> dict[str, np.dtype[Any]]:
    try:
        return {spec.name: numpy_dtype(spec) for spec in (*model.stage.inputs, *model.stage.outputs)}
    except BundleFormatError as error:
        raise EngineError(f"stage {model.stage.name!r}: {error}") from error


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    return len(shape) == len(spec.shape) and all(
        isinstance(promised, str) or size == promised for size, promised in zip(shape, spec.shape, strict=True)
    )


def _shown(feeds: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in feeds.items())
