"""Calls into drivers that may hang, waited for no longer than agreed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Call(Generic[T]):
    def __init__(self, function: Callable[[], T], discard: Callable[[T], None]) -> None:
        self._function = function
        self._discard = discard
        self._lock = threading.Lock()
        self._abandoned = False
        self._done = threading.Event()
        self._value: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            value = self._function()
        except BaseException as error:
            self._error = error
        else:
            with self._lock:
                if self._abandoned:
                    self._discard(value)
                self._value.append(value)
        self._done.set()

    def wait(self, timeout: float) -> T:
        self._done.wait(timeout)
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._value:
                return self._value[0]
            self._abandoned = True
        raise TimeoutError(f"no answer within {timeout:g} s")


def call_bounded(function: Callable[[], T], *, timeout: float, discard: Callable[[T], None], name: str) -> T:
    """Run `function` in a thread of its own and wait `timeout` seconds for it.

    A thread cannot be ended from outside: one that hangs is left behind as a daemon, and what it returns too late is
    given to `discard`.

    Raises:
        TimeoutError: There was no answer in time.
        BaseException: Whatever `function` raised.
    """
    call = _Call(function, discard)
    threading.Thread(target=call.run, name=name, daemon=True).start()
    return call.wait(timeout)
