from __future__ import annotations

import threading
import time

import pytest
from support.media import settled

from mmedge.sources.bounded import call_bounded


def test_answer_in_time() -> None:
    assert call_bounded(lambda: 7, timeout=5, discard=lambda value: None, name="seven") == 7


def test_error_in_time() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call_bounded(fail, timeout=5, discard=lambda value: None, name="fail")


def test_late_answer_is_discarded() -> None:
    go = threading.Event()
    discarded: list[int] = []

    def late() -> int:
        go.wait(5)
        return 7

    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        call_bounded(late, timeout=0.1, discard=discarded.append, name="late")
    assert time.monotonic() - began < 0.5
    go.set()
    assert settled(lambda: discarded == [7])
