from __future__ import annotations

import threading

from mmedge.sources.quiet import _log, quiet_opencv


def test_level_is_silent_inside_and_as_before_outside() -> None:
    before = _log().getLogLevel()
    with quiet_opencv(), quiet_opencv():
        assert _log().getLogLevel() == 0
    assert _log().getLogLevel() == before


def test_level_returns_when_the_last_thread_leaves() -> None:
    before = _log().getLogLevel()
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with quiet_opencv():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(5)
    with quiet_opencv():
        pass
    assert _log().getLogLevel() == 0
    leave.set()
    thread.join()
    assert _log().getLogLevel() == before
