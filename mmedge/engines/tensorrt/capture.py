"""CUDA graphs: the launches of a run, recorded once and then launched as one.

PyCUDA has no capture; cuda.bindings has, on the handle of the same stream.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("mmedge")


class CapturedGraph:
    """A recorded run; launches into the stream in which it was recorded."""

    def __init__(self, driver: Any, executable: Any, stream: int) -> None:
        self._driver = driver
        self._executable = executable
        self._stream = stream

    def launch(self) -> bool:
        """Put one run into the stream; False when the driver does not take it."""
        return _done(self._driver, self._driver.cuGraphLaunch(self._executable, self._stream))

    def close(self) -> None:
        """Let go of it. Nothing of it may be running."""
        self._driver.cuGraphExecDestroy(self._executable)


def capture(enqueue: Callable[[], bool], stream: int) -> CapturedGraph | None:
    """Record what `enqueue` puts into `stream`, without running it.

    None where it cannot be recorded: without cuda.bindings, or when the driver or the engine does not allow it. Then
    runs are enqueued one by one, which is slower and never wrong.
    """
    try:
        driver = importlib.import_module("cuda.bindings.driver")
    except ImportError:
        return None
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    if not _done(driver, driver.cuStreamBeginCapture(stream, mode)):
        return None
    try:
        enqueued = enqueue()
    finally:
        # Also after a failure: a stream that still captures takes nothing else.
        ended = driver.cuStreamEndCapture(stream)
    if not _done(driver, ended) or not enqueued:
        return None
    instantiated = driver.cuGraphInstantiate(ended[1], 0)
    driver.cuGraphDestroy(ended[1])
    return CapturedGraph(driver, instantiated[1], stream) if _done(driver, instantiated) else None


def _done(driver: Any, result: tuple[Any, ...]) -> bool:
    if result[0] == driver.CUresult.CUDA_SUCCESS:
        return True
    _log.debug("CUDA graphs: %s", result[0])
    return False
