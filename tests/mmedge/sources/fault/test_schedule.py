from __future__ import annotations

import pytest

from mmedge.sources.fault.schedule import Place, Schedule, Span, When

FPS = 10


def frames(value: float) -> Span:
    return Span(value, timed=False)


def seconds(value: float) -> Span:
    return Span(value, timed=True)


def struck(when: When, length: Span | None, count: int = 40, seed: tuple[int, ...] = (0, 0)) -> list[int]:
    schedule = Schedule(when, length, seed)
    return [index for index in range(count) if schedule.active(Place(index, index / FPS))]


@pytest.mark.parametrize(
    ("when", "length", "expected"),
    [
        (When(start=frames(3)), frames(2), [3, 4]),
        (When(start=frames(38)), None, [38, 39]),
        (When(start=frames(5), period=20), frames(3), [5, 6, 7, 25, 26, 27]),
        (When(start=seconds(1)), seconds(0.3), [10, 11, 12]),
        (When(start=seconds(1), period=2), seconds(0.2), [10, 11, 30, 31]),
        (When(start=frames(7)), seconds(0.3), [7, 8, 9]),
        (When(start=seconds(1.05)), frames(2), [11, 12]),
        (When(start=frames(100)), None, []),
        (When(chance=0.0), frames(1), []),
        (When(chance=1.0), frames(1), list(range(40))),
    ],
    ids=str,
)
def test_frames_that_are_struck(when: When, length: Span | None, expected: list[int]) -> None:
    assert struck(when, length) == expected


def test_chance_depends_on_the_seed_and_the_number_of_the_frame() -> None:
    when = When(chance=0.3)
    assert struck(when, frames(1)) == struck(when, frames(1))
    assert struck(when, frames(1)) != struck(when, frames(1), seed=(1, 0))
    assert struck(when, frames(1)) != struck(when, frames(1), seed=(0, 1))
    all_of_them = struck(when, frames(1))
    schedule = Schedule(when, frames(1), (0, 0))
    every_third = [index for index in range(0, 40, 3) if schedule.active(Place(index, index / FPS))]
    assert every_third == [index for index in all_of_them if index % 3 == 0]


def test_chance_strikes_as_often_as_it_says() -> None:
    assert len(struck(When(chance=0.2), frames(1), 5000)) == pytest.approx(1000, abs=100)


def test_a_chance_with_a_length_strikes_in_bursts() -> None:
    found = struck(When(chance=0.05), frames(4), 400)
    begins = [index for index in found if index - 1 not in found]
    assert begins
    assert all({begin, begin + 1, begin + 2, begin + 3} <= set(found) for begin in begins if begin < 396)


def test_a_start_that_no_frame_has_comes_with_the_next_frame() -> None:
    schedule = Schedule(When(start=frames(3)), frames(2), (0,))
    assert [index for index in (0, 2, 7, 8, 9, 10) if schedule.active(Place(index, 0))] == [7, 8]
