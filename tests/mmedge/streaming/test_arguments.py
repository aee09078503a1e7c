from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.media import Script
from support.streaming import Slow

from mmedge.errors import InputError
from mmedge.streaming import Backoff, SourceOptions, stream


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "newest"}, "policy must be one of auto, freshest, every, got 'newest'"),
        ({"reconnect": True}, "reconnect must be one of auto, always, never, got True"),
        ({"timeout": "5"}, "timeout must be a number of seconds above 0 and up to 1,000,000, got '5'"),
        ({"timeout": 0}, "timeout must be"),
        ({"open_timeout": float("nan")}, "open_timeout must be"),
        ({"stale_after": -1}, "stale_after must be"),
        ({"frozen_after": True}, "frozen_after must be"),
        ({"max_age": 0}, "max_age must be"),
        ({"max_rate": 0}, "max_rate must be a number of frames a second above 0, or None, got 0"),
        ({"max_rate": float("inf")}, "max_rate must be"),
        ({"backoff": 3}, "backoff must be a Backoff, got 3"),
        ({"backoff": Backoff(first=0)}, r"backoff\.first must be a number of seconds"),
        ({"backoff": Backoff(attempts=0)}, r"backoff\.attempts must be a whole number of 1 or more"),
        ({"max_batch": 0}, "max_batch must be a whole number of 1 or more"),
        ({"fps": 5}, "stream has no option 'fps'; there are policy, max_age"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_options_are_checked_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stream(Slow(), "0", **options)
    if not set(options) & {"max_batch", "fps"}:
        with pytest.raises(InputError, match=message):
            stream(Slow(), SourceOptions("0", **options))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "at least one source"),
        ({}, "at least one source"),
        ({"": "0"}, "the name of a source must be some text, got ''"),
        ({3: "0"}, "the name of a source must be some text, got 3"),
        ([SourceOptions("0", "door"), SourceOptions("1", "door")], "two sources are named 'door'"),
        (SourceOptions(None), "got NoneType, which has no name, live"),  # type: ignore[arg-type]
    ],
    ids=["list", "mapping", "empty-name", "number", "twice", "none"],
)
def test_sources_are_checked_at_once(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stream(Slow(), source)


def test_an_option_that_no_source_would_use_is_refused() -> None:
    with pytest.raises(InputError, match="timeout: every source comes with options of its own"):
        stream(Slow(), SourceOptions("0"), timeout=3)


def test_options_are_for_the_sources_that_come_without() -> None:
    sources = [Script(150, name="a"), SourceOptions(Script(150, name="b"), policy="freshest")]
    with stream(Slow(0.001), sources, policy="every") as results:
        list(results)
        reports = {report.name: report for report in results.reports}
    assert reports["a"].processed >= 64 > reports["b"].processed


def test_numbers_of_numpy() -> None:
    options = {
        "timeout": np.float32(2),
        "max_rate": np.float64(1000),
        "max_frames": np.int64(3),
        "max_batch": np.int8(2),
    }
    assert len(list(stream(Slow(), Script(live=False), **options))) == 3
