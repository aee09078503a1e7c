"""The newest result of each source, for programs that ask when they need one."""

from __future__ import annotations

import threading

from mmedge.results import Result
from mmedge.sources.frame import Frame


class Newest:
    """Keeps one result of each source until it is asked for, or a newer one comes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._results: dict[str, Result] = {}
        self._over = False
        self._error: BaseException | None = None

    def add(self, frame: Frame, result: Result) -> None:
        """Keep a result, in the place of the one before it."""
        with self._changed:
            # A source that was asked for long ago keeps its place in the row.
            self._results[result.source] = result
            self._changed.notify()

    def end(self, error: BaseException | None) -> None:
        """No more come."""
        with self._changed:
            self._over, self._error = True, error
            self._changed.notify_all()

    def get(self, timeout: float) -> Result | None:
        """The newest result of the source that has waited longest; None where none comes within `timeout` seconds.

        Raises:
            Exception: Why there will be no more, once.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._results or self._over, timeout)
            if self._results:
                return self._results.pop(next(iter(self._results)))
            error, self._error = self._error, None
            if error is not None:
                raise error
            return None
