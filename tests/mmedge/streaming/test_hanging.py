"""Drivers that do not return: nothing else waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.media import Script, settled
from support.streaming import Listener, Outlet, Slow, threads

from mmedge.errors import SourceLostError, SourceOpenError
from mmedge.sources import Frame, Source
from mmedge.streaming import Backoff, stream

SOON = Backoff(first=0.02, longest=0.05)


class Hanging(Script):
    """A camera whose third read hangs until `release`, and then gives frames again as if nothing had been."""

    def read(self) -> Frame | None:
        if self.reads == 2:
            self.release.wait(30)
            self.closed.clear()
        return super().read()


class Stubborn(Script):
    """A camera whose `close` hangs until `release`."""

    def close(self) -> None:
        super().close()
        self.release.wait(30)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Set at the end, and then every thread must come to its end."""
    event = threading.Event()
    yield event
    event.set()
    assert settled(lambda: threads() == [], 5)


def outlet(monkeypatch: pytest.MonkeyPatch, *made: Any) -> Outlet:
    ready = Outlet(*made)
    monkeypatch.setattr("mmedge.streaming.link.open_source", ready)
    return ready


def released_by(source: Script, release: threading.Event) -> Script:
    source.release = release
    return source


def test_a_camera_that_hangs_is_left_behind_and_what_it_gives_later_is_not_used(
    monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    hanging = released_by(Hanging(interval=0.01, name="old"), release)
    outlet(monkeypatch, hanging, Script(interval=0.01, name="new"))
    heard = Listener()
    with stream(Slow(), "0", on_state=heard, stale_after=0.1, timeout=0.3, backoff=SOON) as results:
        names = [next(results).source for _ in range(6)]
        read = results.reports[0].read
        release.set()
        assert settled(lambda: hanging.reads == 3)
        names += [next(results).source for _ in range(20)]
        report = results.reports[0]
    assert names == ["old"] * 2 + ["new"] * 24
    assert heard.states() == ["live", "stale", "reconnecting", "live", "ended"]
    assert "gave no new frame for 0.3 s" in str(heard.changes[2].reason)
    stale, lost = heard.changes[1].at, heard.changes[2].at
    assert 0.1 < lost - stale < 1
    assert report.read > read


def test_the_number_of_threads_that_hang_is_bounded(monkeypatch: pytest.MonkeyPatch, release: threading.Event) -> None:
    def hang() -> Source:
        return released_by(Script(1, then="hang"), release)

    opened = outlet(monkeypatch, hang)
    results = stream(Slow(), "0", stale_after=0.05, timeout=0.1, backoff=SOON, open_timeout=0.1)
    asking = threading.Thread(target=list, args=(results,))
    asking.start()
    assert settled(lambda: "3 calls into its driver hang" in str(results.reports[0].reason), 10)
    time.sleep(0.3)
    assert len(opened.opened) == 3
    assert results.reports[0].state == "reconnecting"
    release.set()
    assert settled(lambda: len(opened.opened) > 3, 3)
    results.close()
    asking.join(2)


def test_opening_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch, release: threading.Event) -> None:
    monkeypatch.setattr("mmedge.streaming.channel._OPEN_GRACE_S", 0.1)
    late = Script(interval=0.01, name="late")

    def hang() -> Source:
        release.wait(30)
        return late

    outlet(monkeypatch, hang, Script(interval=0.01, name="new"))
    with stream(Slow(), "0", open_timeout=0.1, reconnect="always", backoff=SOON) as results:
        assert next(results).source == "new"
        release.set()
        assert settled(late.closed.is_set)
    assert late.reads == 0


def test_opening_that_hangs_at_first_is_an_error(monkeypatch: pytest.MonkeyPatch, release: threading.Event) -> None:
    monkeypatch.setattr("mmedge.streaming.channel._OPEN_GRACE_S", 0.1)

    def hang() -> Source:
        release.wait(30)
        return Script()

    outlet(monkeypatch, hang)
    results = stream(Slow(), "0", open_timeout=0.1)
    threading.Timer(1, release.set).start()
    with pytest.raises(SourceOpenError, match=r"did not open it within 0\.1 s"):
        next(results)


def test_a_camera_that_hangs_and_cannot_be_opened_again_is_lost(release: threading.Event) -> None:
    results = stream(Slow(), released_by(Script(1, then="hang"), release), timeout=0.2)
    next(results)
    threading.Timer(1, release.set).start()
    with pytest.raises(SourceLostError, match=r"gave no new frame for 0\.2 s"):
        next(results)


@pytest.mark.parametrize("where", ["open", "read", "close", "model"])
def test_everything_stops_within_two_seconds(
    where: str, monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    def camera() -> Source:
        if where == "open":
            release.wait(30)
        kind = {"read": Hanging, "close": Stubborn}.get(where, Script)
        return released_by(kind(interval=0.01), release)

    outlet(monkeypatch, camera)
    results = stream(Slow(0.2 if where == "model" else 0.0), ["0", Script(interval=0.01)], timeout=30, open_timeout=30)
    got: list[Any] = []
    asking = threading.Thread(target=lambda: got.extend(results))
    asking.start()
    assert settled(lambda: results.reports[1].processed > 2, 5)
    began = time.monotonic()
    results.close()
    asking.join(1)
    took = time.monotonic() - began
    assert not asking.is_alive()
    assert took < 2.3
    left = threads()
    assert len(left) == {"open": 1, "read": 1, "close": 2, "model": 0}[where], left
