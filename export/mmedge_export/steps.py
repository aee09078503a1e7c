"""Says what an export is doing: a progress bar on standard error, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

STEPS = 7


class Steps:
    """Call `start` with what comes next; each call is one step of the bar."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=STEPS) if bar else None

    def start(self, what: str) -> None:
        """Show `what`; the step before it is done."""
        if self._bar is not None and self._task is not None:
            done = self._bar.tasks[0].completed
            first = self._bar.tasks[0].description == "starting"
            self._bar.update(self._task, description=what, completed=done if first else done + 1)

    def finish(self) -> None:
        """Fill the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description="done", completed=STEPS)


@contextmanager
def steps(show: bool | None) -> Iterator[Steps]:
    """Steps on standard error; `show` None shows them on a terminal only."""
    if not (sys.stderr.isatty() if show is None else show):
        yield Steps(None)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield Steps(bar)
