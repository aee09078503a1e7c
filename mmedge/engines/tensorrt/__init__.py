"""TensorRT and TensorRT-RTX: engines that are built for one kind of GPU. One code drives both libraries.

The library is imported when an engine is opened, a bundle is built or a graph is checked, and not before.
"""

from __future__ import annotations

from mmedge.engines.tensorrt.engine import TensorRtEngine, open_tensorrt
from mmedge.engines.tensorrt.parsing import Refusal, refusals

__all__ = ["Refusal", "TensorRtEngine", "create", "refusals"]


def create(device: str | None, threads: int | None) -> TensorRtEngine:
    """TensorRT on the GPU of number `device`; see `open_tensorrt`."""
    return open_tensorrt("tensorrt", device, threads)
