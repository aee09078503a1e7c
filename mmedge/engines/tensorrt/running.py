"""Running a built engine on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmedge.bundle import Stage
from mmedge.engines import Array
from mmedge.engines.tensorrt.binding import Binding, Feed, binding_key
from mmedge.engines.tensorrt.device import Device, DeviceArray
from mmedge.engines.tensorrt.library import Library, messages
from mmedge.engines.tensorrt.lifetime import bury, native_call
from mmedge.errors import EngineError

_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32", "INT8": "int8", "UINT8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
"""trt.DataType member -> dtype. bfloat16 and narrower have none in numpy: no stage may hand them on."""


class TensorRtStage:
    """A built stage on a GPU; see `EngineStage`.

    Args:
        plan: The engine's bytes. They may hold code: only plans that this machine built, or that a verified bundle
            carries, are given here.

    Raises:
        EngineError: The library does not load the plan, or the plan is of another stage.
    """

    fallbacks: tuple[str, ...] = ()

    def __init__(self, library: Library, device: Device, stage: Stage, plan: memoryview | bytes) -> None:
        self.engine = f"{library.name} {library.version}"
        self.provider = f"cuda {device.architecture}"
        self._trt = library.trt
        self._device = device
        self._stage = stage
        self._log = messages(library)
        self._bound: Binding | None = None
        with device.active(), native_call():
            # The runtime must outlive its engine.
            self._runtime = library.trt.Runtime(self._log)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise EngineError(f"{self.engine} does not load the plan of stage {stage.name!r}: {self._log.errors()}")
            self._inputs = self._tensors(library.trt.TensorIOMode.INPUT)
            self._outputs = self._tensors(library.trt.TensorIOMode.OUTPUT)
            self._context = self._engine.create_execution_context()
        self._check_contract()

    def __del__(self) -> None:
        own = self.__dict__
        bury([own.pop(name, None) for name in ("_bound", "_context", "_engine", "_runtime")])

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name, as new arrays on the host.

        Args:
            feeds: Arrays, or what `run_on_device` of a stage of the same engine gave.

        Raises:
            EngineError: A feed is missing or does not fit, or the GPU failed.
        """
        with self._device.active():
            outputs = self._run(feeds)
            arrays = self._device.fetch(list(outputs.values()))
        # The parser narrows double to float32; the contract gets what it promises.
        return {name: a.astype(self._promised[name], copy=False) for name, a in zip(outputs, arrays, strict=True)}

    def run_on_device(self, feeds: Mapping[str, Feed]) -> dict[str, DeviceArray]:
        """As `run`, but the outputs stay on the GPU, and nothing waits for it.

        Raises:
            EngineError: As `run`.
        """
        with self._device.active():
            kept = {}
            for name, array in self._run(feeds).items():
                kept[name] = DeviceArray(self._device, array.shape, array.dtype)
                self._device.put(kept[name], array)
            return kept

    def _run(self, feeds: Mapping[str, Feed]) -> dict[str, DeviceArray]:
        given = {name: self._feed(name, dtype, feeds) for name, dtype in self._inputs.items()}
        self._log.clear()
        if self._bound is None or self._bound.key != binding_key(given, self._host):
            if self._bound is not None:
                self._bound.close()
                self._bound = None
            try:
                self._bound = Binding(self._trt, self._context, self._device, given, self._outputs, self._host)
            except (ValueError, RuntimeError) as error:
                raise self._failure(given) from error
        if not self._bound.run(given):
            raise self._failure(given)
        return self._bound.outputs()

    def _feed(self, name: str, dtype: np.dtype[Any], feeds: Mapping[str, Feed]) -> Feed:
        if name not in feeds:
            raise EngineError(f"stage {self._stage.name!r} needs {name!r}, got {', '.join(feeds) or 'nothing'}")
        feed = feeds[name]
        if isinstance(feed, DeviceArray) and (feed.device is not self._device or name in self._host):
            feed = feed.numpy()
        if feed.dtype == np.float64 and dtype == np.float32 and not isinstance(feed, DeviceArray):
            feed = feed.astype(dtype)
        if feed.dtype != dtype:
            raise EngineError(f"stage {self._stage.name!r}: {name!r} must be {dtype}, got {feed.dtype}")
        return feed

    def _tensors(self, mode: Any) -> dict[str, np.dtype[Any]]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        found = {}
        for name in names:
            if self._engine.get_tensor_mode(name) == mode:
                kind = self._engine.get_tensor_dtype(name).name
                if kind not in _DTYPES:
                    raise EngineError(
                        f"stage {self._stage.name!r}: {name!r} is {kind}, which numpy does not have; export the stage "
                        "with float32 or float16 at its borders"
                    )
                found[name] = np.dtype(_DTYPES[kind])
        return found

    def _check_contract(self) -> None:
        stage = self._stage
        self._promised = {tensor.name: np.dtype(tensor.dtype) for tensor in stage.outputs}
        if set(self._inputs) != {tensor.name for tensor in stage.inputs} or set(self._outputs) != set(self._promised):
            raise EngineError(
                f"the plan of stage {stage.name!r} takes {sorted(self._inputs)} and gives {sorted(self._outputs)}: it "
                "is of another stage; build it again"
            )
        on_host = {
            name
            for name in (*self._inputs, *self._outputs)
            if self._engine.get_tensor_location(name) == self._trt.TensorLocation.HOST
        }
        self._host = frozenset(on_host & set(self._inputs))
        if on_host - self._host:
            raise EngineError(
                f"stage {stage.name!r} gives {', '.join(sorted(on_host - self._host))} as sizes on the host, which is "
                "not supported; export the model so that sizes stay inside a stage"
            )

    def _failure(self, given: Mapping[str, Feed]) -> EngineError:
        shapes = ", ".join(f"{name} {feed.dtype} {list(feed.shape)}" for name, feed in given.items())
        ranges = ", ".join(f"{name} {self._range(name)}" for name, feed in given.items() if name not in self._host)
        return EngineError(
            f"stage {self._stage.name!r} failed on {shapes}: {self._log.errors()}; it was built for {ranges}"
        )

    def _range(self, name: str) -> str:
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        return f"{list(least)} to {list(most)}"
