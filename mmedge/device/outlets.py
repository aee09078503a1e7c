"""The sinks of a device, each behind its queue."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack

from mmedge.device.config import SinkConfig
from mmedge.device.secrets import Secrets
from mmedge.device.status import SinkStatus
from mmedge.errors import MmedgeError, SinkError
from mmedge.sinks.opening import open_sink
from mmedge.sinks.queued import Queued
from mmedge.sinks.sink import Item, Sink, SinkContext

_log = logging.getLogger("mmedge")

CLOSE_S = 2.0
"""How long a sink may take to write what waits."""

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0


class Late:
    """Stands for a sink that could not be opened, and opens it when it can; until then writing is an error.

    Args:
        kind: Of the sink.
        open_again: Opens it, or raises MmedgeError.
        error: Why it could not be opened.
    """

    def __init__(self, kind: str, open_again: Callable[[], Sink], error: MmedgeError) -> None:
        self._kind = kind
        self._open = open_again
        self._error = error
        self._sink: Sink | None = None
        self._wait = _FIRST_WAIT_S
        self._next = time.monotonic() + self._wait

    @property
    def kind(self) -> str:
        return self._kind

    def write(self, item: Item) -> None:
        if self._sink is None:
            self._sink = self._opened()
        self._sink.write(item)

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()

    def cancel(self) -> None:
        """See `Queued`."""
        if cancel := getattr(self._sink, "cancel", None):
            cancel()

    def _opened(self) -> Sink:
        if time.monotonic() < self._next:
            raise self._error
        try:
            return self._open()
        except MmedgeError as error:
            self._error = error
            self._wait = min(2 * self._wait, _LONGEST_WAIT_S)
            self._next = time.monotonic() + self._wait
            raise


def opened(name: str, config: SinkConfig, context: Callable[[], SinkContext]) -> Queued:
    """A sink with its queue. One whose place cannot be written to now is tried again and again.

    Args:
        context: Asked at each attempt: prompts change.

    Raises:
        InputError, MissingDependencyError: It can never be opened; the message names the sink.
    """

    def open_now() -> Sink:
        return open_sink(config.kind, config.options, context())

    try:
        sink = open_now()
    except SinkError as error:
        _log.warning("sink %s cannot be opened, and is tried again: %s", name, error)
        sink = Late(config.kind, open_now, error)
    except MmedgeError as error:
        raise type(error)(f"sinks.{name}: {error}") from error
    return Queued(sink, config.capacity, name)


class Outlets:
    """Gives every item to every sink. Any thread may call any method; none waits for a sink but `close`."""

    def __init__(self) -> None:
        self._sinks: dict[str, Queued] = {}
        self._lock = threading.Lock()

    def put(self, item: Item) -> None:
        """Queue an item for all."""
        for queued in self._all().values():
            queued.put(item)

    def add(self, name: str, queued: Queued) -> Queued | None:
        """Take in a sink; returns the one that it replaces, not closed."""
        with self._lock:
            before = self._sinks.get(name)
            self._sinks = {**self._sinks, name: queued}
            return before

    def remove(self, name: str) -> Queued | None:
        """Leave a sink out; returns it, not closed, or None where there is none of this name."""
        with self._lock:
            found = self._sinks.get(name)
            self._sinks = {other: queued for other, queued in self._sinks.items() if other != name}
            return found

    def change(
        self,
        before: Mapping[str, SinkConfig],
        after: Mapping[str, SinkConfig],
        context: Callable[[], SinkContext],
        undo: ExitStack,
        *,
        again: bool,
    ) -> None:
        """Close the sinks that are not wanted any more and open those that are; `undo` takes it back.

        One that is changed is closed before it is opened anew: the two may write to one file or use one name.

        Args:
            again: Open those that are not changed anew, too.

        Raises:
            InputError, MissingDependencyError: A sink can never be opened.
        """
        same = set() if again else {name for name in after if before.get(name) == after[name]}
        gone = [queued for name in before if name not in same and (queued := self.remove(name)) is not None]
        for queued in gone:
            undo.callback(self._reopen, queued.name, before[queued.name], context)
        close_all(gone, CLOSE_S)
        for name in after:
            if name not in same:
                queued = opened(name, after[name], context)
                undo.callback(self._close, name)
                self.add(name, queued)

    def _close(self, name: str) -> None:
        if (queued := self.remove(name)) is not None:
            queued.close(CLOSE_S)

    def _reopen(self, name: str, config: SinkConfig, context: Callable[[], SinkContext]) -> None:
        try:
            self.add(name, opened(name, config, context))
        except MmedgeError as error:
            _log.error("%s; it was open before, and is lost", error)

    def status(self, secrets: Secrets) -> dict[str, SinkStatus]:
        """What each sink did so far."""
        return {name: _status(queued, secrets) for name, queued in self._all().items()}

    def close(self, timeout: float) -> None:
        """Close all at once, within `timeout` seconds."""
        with self._lock:
            sinks, self._sinks = self._sinks, {}
        close_all(sinks.values(), timeout)

    def _all(self) -> Mapping[str, Queued]:
        # Replaced as a whole, never changed: nobody who goes through it needs the lock.
        return self._sinks


def close_all(sinks: Iterable[Queued], timeout: float) -> None:
    """Close sinks beside each other, within `timeout` seconds."""
    threads = [
        threading.Thread(target=one.close, args=(timeout,), name=f"close {one.name}", daemon=True) for one in sinks
    ]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + timeout + 0.1
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))


def _status(queued: Queued, secrets: Secrets) -> SinkStatus:
    counters = queued.counters
    return {
        "kind": queued.kind,
        "written": counters.written,
        "dropped": counters.dropped,
        "errors": counters.errors,
        "last_error": None if counters.last_error is None else secrets.hide(counters.last_error),
    }
