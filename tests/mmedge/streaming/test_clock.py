"""A wall clock that is set in the middle of a stream."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from support.media import Script, settled
from support.streaming import Listener, Outlet, Slow

from mmedge.errors import SourceLostError
from mmedge.sources.frame import Frame
from mmedge.streaming import Backoff, stream
from mmedge.streaming.numbering import Numbering

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(days=-400)], ids=["forward", "back"])
def test_results_states_and_waits_do_not_follow_a_clock_that_is_set(
    jump: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Set(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + jump

    real = datetime
    monkeypatch.setattr(
        "mmedge.streaming.link.open_source",
        Outlet(Script(40, interval=0.01, then=SourceLostError("gone")), lambda: Script(interval=0.01)),
    )
    heard = Listener()
    with stream(Slow(), "0", on_state=heard, max_age=1.0, backoff=Backoff(0.02, 0.05), timeout=5) as results:
        found = [next(results) for _ in range(10)]
        for module in ("mmedge.sources.stamp", "mmedge.streaming.tracking", "mmedge.moment"):
            monkeypatch.setattr(f"{module}.datetime", Set)
        monkeypatch.setattr(time, "time", lambda: (real.now(timezone.utc) + jump).timestamp())
        while found[-1].frame < 60:
            found.append(next(results))
        assert settled(lambda: heard.states() == ["live", "reconnecting", "live"])
    assert {result.state for result in found} <= {"live", "reconnecting"}
    assert all(result.age_ms < 500 for result in found)
    steps = [later.captured_at - earlier.captured_at for earlier, later in pairwise(found)]
    assert all(step > timedelta(0) for step in steps)
    within = [step for step, later in zip(steps, found[1:], strict=True) if later.frame < 40]
    assert max(within) < timedelta(seconds=1), "the clock of an open source was moved"
    # Opened again, a source has the clock as it is now; one that was set back is not followed.
    assert (max(steps) > timedelta(days=300)) == (jump > timedelta(0))


def test_frames_after_a_clock_was_set_back_keep_their_distances() -> None:
    numbering, start = Numbering(), datetime(2030, 1, 1, tzinfo=timezone.utc)
    frame = Frame(np.zeros((2, 2, 3), np.uint8), "0", 0, 100.0, start)
    first = numbering.next(frame, None)
    numbering.restart()
    hour = timedelta(hours=1)
    moved = [
        numbering.next(replace(frame, index=n, captured=103.0 + n, captured_at=start - hour + n * SECOND), None)
        for n in range(3)
    ]
    assert first.captured_at == start
    assert [one.captured_at - start for one in moved] == [3 * SECOND, 4 * SECOND, 5 * SECOND]
    assert [one.index for one in moved] == [1, 2, 3]
