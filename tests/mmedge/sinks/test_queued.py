from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest
from support.sink_items import event, observation, prompts, state

from mmedge.errors import InputError, SinkError
from mmedge.sinks.queued import Queued
from mmedge.sinks.sink import Item, Observation


class Gated:
    """A sink that takes an item only when it is let."""

    kind = "gated"

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.closed = threading.Event()

    def write(self, item: Item) -> None:
        self.entered.set()
        assert self.gate.wait(20)
        self.items.append(item)

    def close(self) -> None:
        self.closed.set()


class Failing:
    kind = "failing"

    def __init__(self, words: str = "no") -> None:
        self.words = words
        self.failures = 0

    def write(self, item: Item) -> None:
        self.failures += 1
        raise SinkError(self.words)

    def close(self) -> None:
        raise SinkError("not even this")


def blocked(capacity: int) -> tuple[Gated, Queued, Observation]:
    """A queue whose sink is busy with its first item."""
    sink, first = Gated(), observation(0)
    queue = Queued(sink, capacity)
    queue.put(first)
    assert sink.entered.wait(5)
    return sink, queue, first


def finish(sink: Gated, queue: Queued) -> list[Item]:
    sink.gate.set()
    assert queue.close(5)
    assert sink.closed.is_set()
    return sink.items


def test_everything_arrives_in_order_and_what_waits_is_written_at_the_end() -> None:
    sink, queue, first = blocked(100)
    items = [item for n in range(1, 20) for item in (observation(n), state(), event(n), prompts(n))]
    for item in items:
        queue.put(item)
    assert finish(sink, queue) == [first, *items]
    assert (queue.counters.written, queue.counters.dropped, queue.counters.errors) == (77, 0, 0)


def test_a_full_queue_lets_the_oldest_observations_go_first() -> None:
    sink, queue, first = blocked(4)
    a, b, c, d = (observation(n) for n in range(1, 5))
    start, frozen = event(1), state()
    for item in (a, start, b, frozen, c, d):
        queue.put(item)
    assert queue.counters.dropped == 2
    assert finish(sink, queue) == [first, start, frozen, c, d]
    assert queue.counters.written == 5


def test_other_items_go_only_where_no_observation_waits() -> None:
    sink, queue, first = blocked(2)
    one, two, three = event(1), state(), prompts()
    for item in (one, two, observation(1), three):
        queue.put(item)
    assert finish(sink, queue) == [first, two, three]
    assert queue.counters.dropped == 2


def test_pixels_bound_the_queue_before_their_number_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmedge.sinks.queued._MOST_PIXELS", 3 * 64 * 48 * 3)
    sink, queue, first = blocked(100)
    large, small = [observation(n) for n in range(1, 6)], [observation(n, size=None) for n in range(6, 9)]
    for item in large + small:
        queue.put(item)
    assert finish(sink, queue) == [first, *large[2:], *small]


def test_put_never_waits_for_a_sink_that_hangs() -> None:
    sink, queue, _ = blocked(3)
    began = time.monotonic()
    for n in range(10_000):
        queue.put(observation(0) if n == 0 else state())
    assert time.monotonic() - began < 5
    assert queue.counters.dropped == 9997
    sink.gate.set()
    assert queue.close()


def test_close_leaves_a_hanging_sink_behind_in_time() -> None:
    sink, queue, _ = blocked(10)
    queue.put(observation(1))
    began = time.monotonic()
    assert not queue.close(0.3)
    assert 0.2 < time.monotonic() - began < 1.5
    queue.put(observation(2))
    sink.gate.set()
    assert queue.close(5)
    assert len(sink.items) == 1
    assert queue.counters.dropped == 2


def test_errors_are_counted_masked_and_seldom_logged(caplog: pytest.LogCaptureFixture) -> None:
    sink = Failing("cannot reach\nhttp://me:hunter2@host/x?token=abc")
    with caplog.at_level(logging.WARNING):
        queue = Queued(sink, name="alarm")
        for n in range(50):
            queue.put(observation(n))
        assert queue.close(5)
    counters = queue.counters
    assert (sink.failures, counters.written, counters.errors) == (50, 0, 51)
    assert counters.last_error == "not even this"
    logged = [entry.getMessage() for entry in caplog.records if "alarm" in entry.getMessage()]
    assert logged == ["sink alarm: cannot reach http://me:***@host/x?token=*** (errors so far: 1)"]


def test_a_sink_that_fails_is_asked_again() -> None:
    class Once(Gated):
        def write(self, item: Item) -> None:
            if not self.entered.is_set():
                self.entered.set()
                raise OSError(28, "No space left on device")
            self.items.append(item)

    sink = Once()
    queue = Queued(sink)
    queue.put(observation(0))
    queue.put(observation(1))
    assert queue.close(5)
    assert [item.result.frame for item in sink.items if isinstance(item, Observation)] == [1]
    assert (queue.counters.errors, queue.counters.written) == (1, 1)
    assert "No space left" in str(queue.counters.last_error)


def test_what_a_sink_does_not_take_is_not_queued() -> None:
    class Events(Gated):
        takes = (type(event()),)
        pixels = False

    sink = Events()
    sink.gate.set()
    queue = Queued(sink)
    for item in (observation(0), event(1), state(), prompts()):
        queue.put(item)
    assert queue.close(5)
    assert [getattr(item, "id", None) for item in sink.items] == ["e1"]
    assert getattr(sink.items[0], "best", "") is None
    assert queue.counters.written == 1


def test_idle_is_called_once_after_a_second_of_silence_and_cancel_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmedge.sinks.queued._IDLE_S", 0.05)
    calls: list[str] = []

    class Idle(Gated):
        def idle(self) -> None:
            calls.append("idle")

        def cancel(self) -> None:
            calls.append("cancel")

    sink = Idle()
    sink.gate.set()
    queue = Queued(sink)
    queue.put(observation(0))
    time.sleep(0.4)
    assert calls.count("idle") in (1, 2)  # once more where the first item was late
    assert queue.close(5)
    assert calls[-1] == "cancel"


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, 10**7, "8"])
def test_capacities_that_cannot_be(capacity: Any) -> None:
    with pytest.raises(InputError, match="capacity must be a whole number"):
        Queued(Gated(), capacity)


def test_threads_end() -> None:
    before = threading.active_count()
    queues = [Queued(Gated()) for _ in range(20)]
    assert all(queue.close(5) for queue in queues)
    assert threading.active_count() == before
