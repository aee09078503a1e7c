from __future__ import annotations

import pytest

from mmedge.server import access
from mmedge.server.access import Access, Buckets, client_of

TOKEN = "correct-horse-battery"


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(access, "time", clock)
    return clock


def test_a_bucket_allows_its_burst_and_then_its_rate(clock: Clock) -> None:
    bucket = Buckets(rate=2.0, burst=3.0)
    assert [bucket.take("a") for _ in range(3)] == [0.0] * 3
    assert bucket.take("a") == pytest.approx(0.5)
    assert bucket.take("b") == 0.0
    clock.now += 0.5
    assert bucket.take("a") == 0.0
    assert bucket.take("a") > 0


def test_clients_are_forgotten_when_there_are_too_many(clock: Clock) -> None:
    bucket = Buckets(rate=1.0, burst=1.0)
    for number in range(5000):
        bucket.take(str(number))
    assert len(bucket._levels) == 1024


def test_wrong_tokens_lock_their_client_only_and_only_for_a_while(clock: Clock) -> None:
    guard = Access(TOKEN)
    assert not any(guard.knows("a", "wrong") for _ in range(5))
    assert guard.locked_s("a") > 0
    assert guard.locked_s("b") == 0
    clock.now += 10.1
    assert guard.locked_s("a") == 0
    assert guard.knows("a", TOKEN)


def test_a_session_ends_by_itself_by_hand_and_by_newer_ones(clock: Clock) -> None:
    guard = Access(TOKEN)
    first, second = guard.begin(), guard.begin()
    assert first != second
    assert guard.holds(first)
    guard.end(first)
    assert not guard.holds(first)
    clock.now += 20 * 3600
    assert guard.holds(second)
    clock.now += 20 * 3600
    assert guard.holds(second), "its use kept it alive"
    clock.now += 25 * 3600
    assert not guard.holds(second)
    oldest = guard.begin()
    for _ in range(64):
        guard.begin()
    assert not guard.holds(oldest)
    assert not guard.holds("")


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.168.1.4", "192.168.1.4"),
        ("::ffff:192.168.1.4", "192.168.1.4"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("testclient", "testclient"),
        (None, "unknown"),
    ],
)
def test_one_client_for_the_addresses_that_it_can_choose_from(address: str | None, client: str) -> None:
    assert client_of(address) == client
