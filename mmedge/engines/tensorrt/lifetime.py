"""When the library's objects go: never while the library is at work.

The library calls our loggers while it holds its own locks, and its objects need those locks to go. Python's collector
may run inside such a call, and what it finds there would wait for ever. So objects of calls that failed are let go of
before anybody can keep them in a cycle, and those of loaded stages wait until no call is running.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

# Re-entrant: the collector may run in the midst of what it guards.
_lock = threading.RLock()
_calls = 0
_buried: list[object] = []


@contextmanager
def native_call() -> Iterator[None]:
    """Around calls of the library that may log. An error that leaves it holds none of the objects of its frames."""
    global _calls
    with _lock:
        _calls += 1
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        dead: list[object] = []
        with _lock:
            _calls -= 1
            if not _calls:
                dead.extend(_buried)
                _buried.clear()
        dead.clear()


def bury(objects: object) -> None:
    """Let go of objects of the library: now, or when no call is running any more."""
    with _lock:
        if _calls:
            _buried.append(objects)
