"""TensorRT-RTX: the library for desktop GPUs, which builds for them without having one."""

from __future__ import annotations

from mmedge.engines.tensorrt.engine import TensorRtEngine, open_tensorrt


def create(device: str | None, threads: int | None) -> TensorRtEngine:
    """TensorRT-RTX on the GPU of number `device`; see `open_tensorrt`."""
    return open_tensorrt("tensorrt_rtx", device, threads)
