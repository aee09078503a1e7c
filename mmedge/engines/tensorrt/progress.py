"""How far a build is: the library's nested phases as one fraction, and a place to stop it."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmedge.engines.tensorrt.library import Library

_log = logging.getLogger("mmedge")

Report = Callable[[float, str], None]
"""Takes the fraction that is done, 0 to 1, and the name of the phase."""

_QUIET_S = 10.0


class Progress:
    """Listens to the library while it builds; see ``IProgressMonitor``. The library may call from several threads.

    Args:
        report: Called when the fraction grows.
        cancelled: Once set, the library is asked to stop, and does at its next step.

    Attributes:
        failure: What `report` raised; it stops the build.
    """

    def __init__(self, report: Report, cancelled: threading.Event) -> None:
        self.failure: BaseException | None = None
        self._report = report
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[str | None, int, int]] = {}
        self._shown = -1.0

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Called by the library."""
        with self._lock:
            self._phases[phase_name] = (parent_phase, max(num_steps, 1), 0)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Called by the library; False asks it to stop."""
        with self._lock:
            parent, steps, _ = self._phases.get(phase_name, (None, step + 1, 0))
            self._phases[phase_name] = (parent, steps, min(step + 1, steps))
            self._tell(phase_name)
        return not self._cancelled.is_set()

    def phase_finish(self, phase_name: str) -> None:
        """Called by the library."""
        with self._lock:
            self._phases.pop(phase_name, None)

    def _tell(self, phase: str) -> None:
        fraction = max((self._fraction(name) for name, (parent, _, _) in self._phases.items() if not parent), default=0)
        if fraction > self._shown and self.failure is None:
            self._shown = fraction
            try:
                self._report(fraction, phase)
            except BaseException as error:  # nothing may be raised into the library
                self.failure = error
                self._cancelled.set()

    def _fraction(self, phase: str) -> float:
        _, steps, done = self._phases[phase]
        inner = [self._fraction(name) for name, (parent, _, _) in self._phases.items() if parent == phase != name]
        return min(1.0, (done + max(inner, default=0.0)) / steps)


def monitor(library: Library, progress: Progress) -> Any:
    """`progress` as the library's own kind of listener."""
    base: type[Any] = library.trt.IProgressMonitor

    class _Monitor(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step_complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.phase_finish(phase_name)

    return _Monitor()


@contextmanager
def shown(what: str) -> Iterator[Report]:
    """A progress bar on standard error where that is a terminal, and a line in the log now and then where not."""
    if not sys.stderr.isatty():
        yield LogLines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task(what, total=1.0)

        def report(fraction: float, phase: str) -> None:
            bars.update(task, completed=fraction, description=f"{what}: {phase}")

        yield report


class LogLines:
    """Reports in the log, every ten seconds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last = time.monotonic()

    def __call__(self, fraction: float, phase: str) -> None:
        now = time.monotonic()
        if now - self._last >= _QUIET_S:
            self._last = now
            _log.info("%s: %.0f %%, %s", self._what, 100 * fraction, phase)
