"""A stand-in for the runtime half of TensorRT: its plans are ONNX files, and ONNX Runtime computes on the GPU stand-in.

Names, arguments and results are those of TensorRT 10 and TensorRT-RTX 1.7.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from support.gpu_stand_in import Gpu


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class TensorLocation(enum.Enum):
    DEVICE, HOST = range(2)


_KINDS = {
    "tensor(float)": "FLOAT", "tensor(int64)": "INT64", "tensor(bool)": "BOOL", "tensor(float16)": "HALF",
    "tensor(double)": "FLOAT", "tensor(bfloat16)": "BF16",
}  # fmt: skip
_DTYPES = {"FLOAT": np.float32, "INT64": np.int64, "BOOL": np.bool_, "HALF": np.float16}
_MOST = 64


def module(gpu: Gpu, *, version: str = "10.9.0", host: Sequence[str] = ()) -> ModuleType:
    """A module `tensorrt`. host: tensors that engines read or write on the host."""
    trt = ModuleType("tensorrt")
    members: dict[str, Any] = {
        "__version__": version,
        "ILogger": type("ILogger", (), {"__init__": lambda self: None}),
        "IOutputAllocator": type("IOutputAllocator", (), {"__init__": lambda self: None}),
        "TensorIOMode": TensorIOMode,
        "TensorLocation": TensorLocation,
        "Runtime": lambda log: _Runtime(gpu, log, frozenset(host)),
    }
    for name, value in members.items():
        setattr(trt, name, value)
    return trt


class _Runtime:
    def __init__(self, gpu: Gpu, log: Any, host: frozenset[str]) -> None:
        self._gpu, self._log, self._host = gpu, log, host

    def deserialize_cuda_engine(self, plan: Any) -> _Engine | None:
        self._gpu.check_current()
        try:
            session = ort.InferenceSession(bytes(plan), providers=["CPUExecutionProvider"])
        except Exception:
            self._log.log(SimpleNamespace(name="ERROR"), "Serialization assertion failed:\n magicTag")
            return None
        return _Engine(self._gpu, self._log, session, self._host)


class _Engine:
    def __init__(self, gpu: Gpu, log: Any, session: ort.InferenceSession, host: frozenset[str]) -> None:
        self.gpu, self.log, self.session, self.host = gpu, log, session, host
        self.inputs = {value.name: value for value in session.get_inputs()}
        self.outputs = {value.name: value for value in session.get_outputs()}
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_KINDS[{**self.inputs, **self.outputs}[name].type])

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.HOST if name in self.host else TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
        sizes = self.inputs[name].shape
        bounds = (1, 2, _MOST)
        return tuple(tuple(s if isinstance(s, int) else bound for s in sizes) for bound in bounds)

    def create_execution_context(self) -> _Context:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._inferred: dict[str, tuple[int, ...]] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        promised = self._engine.inputs[name].shape
        fits = len(shape) == len(promised) and all(
            size == own if isinstance(own, int) else 1 <= size <= _MOST
            for size, own in zip(shape, promised, strict=True)
        )
        if not fits:
            self._engine.log.log(SimpleNamespace(name="ERROR"), f"Static dimension mismatch for {name}")
            return False
        self._shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self._allocators[name] = allocator
        return True

    def infer_shapes(self) -> list[str]:
        missing = [name for name in self._engine.inputs if name not in self._shapes]
        if not missing:
            values = self._compute(self._sample)
            known = {size for value in self._engine.inputs.values() for size in value.shape if isinstance(size, str)}
            for (name, output), value in zip(self._engine.outputs.items(), values, strict=True):
                pairs = zip(output.shape, value.shape, strict=True)
                self._inferred[name] = tuple(
                    -1 if isinstance(own, str) and own not in known and not self._engine.host else size
                    for own, size in pairs
                )
        return missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._inferred[name]

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7
        gpu = self._engine.gpu
        if any(self._allocators.values()):
            # Sizes are known on the host before the call returns.
            gpu.flush()
            for name, value in zip(self._engine.outputs, self._compute(self._read), strict=True):
                if self._allocators.get(name):
                    address = self._allocators[name].reallocate_output_async(name, None, value.nbytes, 256, stream)
                    self._allocators[name].notify_shape(name, value.shape)
                    self._addresses[name] = address
        shapes, addresses = dict(self._shapes), dict(self._addresses)

        def work() -> None:
            assert shapes == self._shapes, "recorded for other shapes"
            for name, value in zip(self._engine.outputs, self._compute(self._read), strict=True):
                if value.nbytes:
                    gpu.write(addresses[name], value.tobytes())

        gpu.enqueue("execute", work)
        return True

    def _sample(self, name: str) -> np.ndarray[Any, Any]:
        """Anything of the right shape; the true values where they set shapes."""
        return self._read(name) if name in self._engine.host else np.ones(self._shapes[name], self._dtype(name))

    def _read(self, name: str) -> np.ndarray[Any, Any]:
        if name in self._engine.host:
            shape, dtype = self._shapes[name], np.dtype(self._dtype(name))
            data = ctypes.string_at(self._addresses[name], int(np.prod(shape)) * dtype.itemsize)
            return np.frombuffer(data, dtype).reshape(shape)
        return self._engine.gpu.read(self._addresses[name], self._shapes[name], self._dtype(name))

    def _compute(self, source: Any) -> list[np.ndarray[Any, Any]]:
        feeds = {}
        for name, value in self._engine.inputs.items():
            array = source(name)
            feeds[name] = array.astype(np.float64) if value.type == "tensor(double)" else array
        found = self._engine.session.run(list(self._engine.outputs), feeds)
        return [
            value.astype(self._dtype(name), copy=False) for name, value in zip(self._engine.outputs, found, strict=True)
        ]

    def _dtype(self, name: str) -> Any:
        return _DTYPES[self._engine.get_tensor_dtype(name).name]
