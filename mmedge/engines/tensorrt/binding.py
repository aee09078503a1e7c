"""An engine bound to one set of shapes: buffers at fixed addresses, so that its launches can be recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmedge.engines import Array
from mmedge.engines.tensorrt.capture import CapturedGraph, capture
from mmedge.engines.tensorrt.device import Device, DeviceArray

Feed = Array | DeviceArray


class Binding:
    """Input and output buffers of a context for the shapes of `feeds`. Used while the device is active.

    Args:
        trt: The library.
        outputs: dtype by name.
        host: Inputs whose values the library reads on the host, because they set shapes.

    Attributes:
        key: What it was made for; see `binding_key`.

    Raises:
        ValueError: The context does not take the shapes; the library's log says why.
    """

    def __init__(
        self,
        trt: Any,
        context: Any,
        device: Device,
        feeds: Mapping[str, Feed],
        outputs: Mapping[str, np.dtype[Any]],
        host: frozenset[str],
    ) -> None:
        self.key = binding_key(feeds, host)
        self._context = context
        self._device = device
        self._dtypes = outputs
        self._inputs: dict[str, DeviceArray] = {}
        self._values = {name: np.array(feeds[name], order="C") for name in host}
        self._outputs: dict[str, DeviceArray] = {}
        self._allocators: dict[str, Any] = {}
        self._graph: CapturedGraph | None = None
        self._runs = 0
        self._bind_inputs(feeds)
        if context.infer_shapes():
            raise ValueError
        for name, dtype in outputs.items():
            shape = tuple(context.get_tensor_shape(name))
            if -1 in shape:
                self._allocators[name] = _allocator(trt, device)
                context.set_output_allocator(name, self._allocators[name])
            else:
                self._outputs[name] = DeviceArray(device, shape, dtype)
                context.set_tensor_address(name, self._outputs[name].address)

    def run(self, feeds: Mapping[str, Feed]) -> bool:
        """Copy the feeds and put one run into the stream; False when the library does not take it."""
        for name, buffer in self._inputs.items():
            self._device.put(buffer, feeds[name])
        self._runs += 1
        # The library finishes its own preparations in the first run after a change of shapes. A second run with the
        # same shapes tells that recording pays.
        if self._runs == 2 and not self._allocators:
            self._graph = capture(self._enqueue, self._device.stream)
        if self._graph is not None:
            if self._graph.launch():
                return True
            self._graph.close()
            self._graph = None
        return self._enqueue()

    def outputs(self) -> dict[str, DeviceArray]:
        """The buffers of the outputs, which the next run overwrites."""
        if self._allocators:
            self._device.wait()
        made = {
            name: DeviceArray(self._device, allocator.shape, self._dtypes[name], allocator.memory)
            for name, allocator in self._allocators.items()
        }
        return {name: made.get(name) or self._outputs[name] for name in self._dtypes}

    def close(self) -> None:
        """Wait for what runs, and let go of the recording and of the allocators."""
        self._device.wait()
        if self._graph is not None:
            self._graph.close()
        for name in self._allocators:
            self._context.set_output_allocator(name, None)

    def _bind_inputs(self, feeds: Mapping[str, Feed]) -> None:
        for name, feed in feeds.items():
            if not self._context.set_input_shape(name, tuple(feed.shape)):
                raise ValueError
            if name in self._values:
                address = self._values[name].ctypes.data
            else:
                self._inputs[name] = DeviceArray(self._device, tuple(feed.shape), feed.dtype)
                address = self._inputs[name].address
            self._context.set_tensor_address(name, address)

    def _enqueue(self) -> bool:
        return bool(self._context.execute_async_v3(self._device.stream))


def binding_key(feeds: Mapping[str, Feed], host: frozenset[str]) -> tuple[object, ...]:
    """Equal for feeds of the same shapes, and the same values where those set shapes."""
    values = tuple(np.asarray(feeds[name]).tobytes() for name in sorted(host))
    return *((name, tuple(feed.shape)) for name, feed in feeds.items()), values


def _allocator(trt: Any, device: Device) -> Any:
    """Gives memory for an output whose size is known only once it is computed."""
    base: type[Any] = trt.IOutputAllocator

    class _Allocator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self.memory: Any = None
            self.shape: tuple[int, ...] = ()

        def reallocate_output(self, tensor_name: str, memory: Any, size: int, alignment: int) -> int:
            # New memory each time: what an earlier run gave may still be held.
            self.memory = device.allocate(size)
            return int(self.memory)

        def reallocate_output_async(self, tensor_name: str, memory: Any, size: int, alignment: int, stream: Any) -> int:
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return _Allocator()
