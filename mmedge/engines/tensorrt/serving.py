"""Serving while an engine is built: a stage that changes what it runs on, between two runs and never within one."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from mmedge.engines import Array, EngineStage

_log = logging.getLogger("mmedge")

_PATIENCE_S = 60.0
"""Longer than any step of a build after which the library looks whether it should stop."""


class ServingStage:
    """Runs on one stage, and from some moment on another; see `EngineStage`."""

    def __init__(self, name: str, stage: EngineStage) -> None:
        self._name = name
        self._stage = stage

    @property
    def engine(self) -> str:
        return self._stage.engine

    @property
    def provider(self) -> str:
        return self._stage.provider

    @property
    def fallbacks(self) -> tuple[str, ...] | None:
        return self._stage.fallbacks

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self._stage.run(feeds)

    @property
    def run_on_device(self) -> Any:
        """That of the stage in use; None where it has none."""
        return getattr(self._stage, "run_on_device", None)

    def switch(self, stage: EngineStage) -> None:
        """From the next run on, run on `stage`. Runs that have begun end where they began."""
        before, self._stage = self._stage, stage
        _log.info(
            "stage %s runs on %s, %s from now on (before: %s)", self._name, stage.engine, stage.provider, before.engine
        )


class BackgroundBuilds:
    """Does one task after the other on a thread of its own."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self._tasks: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, task: Callable[[], None]) -> None:
        """Do `task` when those before it are done; not at all after `close`."""
        with self._lock:
            self._tasks.append(task)
            if self._thread is None and not self.cancelled.is_set():
                self._thread = threading.Thread(target=self._work, name="mmedge-engines", daemon=True)
                self._thread.start()
                _open.add(self)

    def close(self) -> None:
        """Stop the task that is at work, which must look at `cancelled`, and drop the others. Safe to call twice."""
        self.cancelled.set()
        thread = self._thread
        if thread is not None:
            thread.join(_PATIENCE_S)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._tasks or self.cancelled.is_set():
                    self._thread = None
                    return
                task = self._tasks.popleft()
            task()


_open: weakref.WeakSet[BackgroundBuilds] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # The library crashes when the process goes away beneath it.
    for builds in list(_open):
        builds.close()
