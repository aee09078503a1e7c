"""The forms of a stream beside the iterator, and sources that come and go."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pytest
from support.media import Script, settled
from support.streaming import Slow, threads

from mmedge.errors import InputError, SourceLostError
from mmedge.results import Result
from mmedge.sources import Frame
from mmedge.streaming import stream


def test_a_control_loop_gets_the_newest_result_or_none_in_time() -> None:
    with stream(Slow(0.001), Script(interval=0.02)) as results:
        first = results.get(2)
        time.sleep(0.2)
        second = results.get(2)
        began = time.monotonic()
        third = results.get(0.001)
        assert time.monotonic() - began < 0.2
    assert first is not None
    assert second is not None
    assert second.frame - first.frame >= 4
    assert third is None or third.frame > second.frame


def test_of_several_cameras_each_gets_its_turn() -> None:
    with stream(Slow(), [Script(interval=0.001, name="fast"), Script(interval=0.03, name="slow")]) as results:
        assert results.get(2) is not None
        time.sleep(0.1)
        assert {r.source for _ in "ab" if (r := results.get(1)) is not None} == {"fast", "slow"}


def test_what_ends_the_stream_is_raised_once_and_then_there_is_nothing_more() -> None:
    results = stream(Slow(), Script(1, interval=0.01, then=SourceLostError("unplugged")))
    assert results.get(2) is not None
    with pytest.raises(SourceLostError, match="unplugged"):
        results.get(2)
    began = time.monotonic()
    assert results.get(5) is None
    assert time.monotonic() - began < 1
    assert results.ended


def test_a_stream_that_nobody_holds_any_more_ends() -> None:
    source = Script(interval=0.01)
    results = stream(Slow(), source)
    assert results.get(2) is not None
    del results
    gc.collect()
    assert settled(source.closed.is_set)
    assert settled(lambda: threads() == [])


@pytest.mark.parametrize("timeout", [0, -1, "1", float("nan")])
def test_time_to_wait_is_checked(timeout: Any) -> None:
    with pytest.raises(InputError, match="timeout must be a number of seconds"):
        stream(Slow(), Script()).get(timeout)


def test_a_function_is_called_with_each_frame_and_result() -> None:
    calls: list[tuple[int, int]] = []
    results = stream(Slow(), Script(20, live=False))
    results.start(lambda frame, result: calls.append((frame.index, result.frame)))
    assert results.join(5)
    assert calls == [(n, n) for n in range(20)]
    assert results.ended
    assert settled(lambda: threads() == [])


def test_it_runs_on_although_nobody_holds_the_stream() -> None:
    calls: list[int] = []
    stop = threading.Event()
    source = Script(interval=0.01)

    def take(frame: Frame, result: Result) -> None:
        calls.append(result.frame)
        if stop.is_set():
            raise KeyboardInterrupt

    stream(Slow(), source).start(take, lambda error: None)
    gc.collect()
    assert settled(lambda: len(calls) > 10)
    stop.set()
    assert settled(lambda: threads() == [])


def test_stop_returns_at_once_and_the_frame_in_work_is_still_told() -> None:
    calls: list[int] = []
    results = stream(Slow(0.3), Script(interval=0.01))
    results.start(lambda frame, result: calls.append(result.frame))
    assert settled(lambda: len(calls) == 1)
    time.sleep(0.1)
    began = time.monotonic()
    results.stop()
    assert time.monotonic() - began < 0.1
    assert results.join(2)
    assert len(calls) == 2
    assert settled(lambda: threads() == [])


def test_a_function_may_stop_and_close_its_own_stream() -> None:
    results = stream(Slow(), Script(interval=0.01))
    results.start(lambda frame, result: results.close())
    assert results.join(2)
    assert settled(lambda: threads() == [])


@pytest.mark.parametrize("broken", ["source", "model", "function"])
def test_what_ends_it_is_told(broken: str) -> None:
    errors: list[BaseException] = []

    def call(frame: Frame, result: Result) -> None:
        if broken == "function":
            raise SourceLostError("here")

    def model(frame: Frame, /) -> Result:
        if broken == "model":
            raise SourceLostError("here")
        return Slow()(frame)

    source = Script(2, live=False, then=SourceLostError("here") if broken == "source" else "end")
    results = stream(model, source)
    results.start(call, errors.append)
    assert results.join(2)
    assert [str(error) for error in errors] == ["here"]
    assert source.closed.is_set()


def test_without_anybody_to_tell_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    results = stream(Slow(), Script(1, live=False, then=SourceLostError("unplugged")))
    results.start(lambda frame, result: None)
    assert results.join(2)
    assert "the stream ended: unplugged" in caplog.text


def test_a_stream_is_run_once() -> None:
    with stream(Slow(), Script(interval=0.01)) as results:
        results.start(lambda frame, result: None)
        for again in (lambda: results.start(lambda frame, result: None), lambda: results.get(1)):
            with pytest.raises(InputError, match="runs in a thread of its own already"):
                again()


def test_functions_are_checked() -> None:
    with pytest.raises(InputError, match="must be functions"):
        stream(Slow(), Script()).start("print")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on_state must be a function"):
        stream(Slow(), Script(), on_state=3)  # type: ignore[arg-type]


def test_sources_come_and_go_while_the_others_run() -> None:
    first, second = Script(interval=0.01, name="first"), Script(interval=0.01, name="second")
    with stream(Slow(), {"first": first}) as results:
        assert next(results).source == "first"
        assert results.add({"second": second})
        while next(results).source != "second":
            pass
        with pytest.raises(InputError, match="there is a source named 'second' already"):
            results.add({"second": Script()})
        assert results.remove("first")
        assert not results.remove("first")
        assert settled(first.closed.is_set)
        assert [report.name for report in results.reports] == ["second"]
        assert {next(results).source for _ in range(5)} == {"second"}
        results.remove("second")
        assert list(results) == []
        assert not results.add(Script())
    assert second.closed.is_set()


def test_two_streams_of_one_model_do_not_know_of_each_other() -> None:
    model = Slow()
    with stream(model, Script(5, live=False)) as one, stream(model, Script(5, live=False)) as other:
        assert [(a.frame, b.frame) for a, b in zip(one, other, strict=True)] == [(n, n) for n in range(5)]
