from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mmedge.streaming.frozen import FrozenDetector

RNG = np.random.default_rng(8)


def picture(*shape: int) -> npt.NDArray[np.uint8]:
    return RNG.integers(256, size=shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(48, 64, 3), (7, 5, 3), (1080, 1920, 3)])
def test_equal_pictures_are_frozen_after_the_time_and_not_before(shape: tuple[int, ...]) -> None:
    detector, still = FrozenDetector(2.0), picture(*shape)
    found = [detector.frozen(still.copy(), second) for second in range(6)]
    # A run begins at its second picture.
    assert found == [False, False, False, True, True, True]
    assert not detector.frozen(picture(*shape), 6.0)


def test_one_pixel_between_those_that_are_looked_at_first_is_a_difference() -> None:
    detector, still = FrozenDetector(1.0), picture(40, 40, 3)
    for second in range(9):
        still[17, 21, 1] ^= 1
        assert not detector.frozen(still.copy(), second)


def test_another_size_is_a_difference() -> None:
    detector = FrozenDetector(1.0)
    for second in range(9):
        blank = np.zeros((32 + second % 2, 48, 3), np.uint8)
        assert not detector.frozen(blank, second)


def test_pictures_that_somebody_draws_on_afterwards() -> None:
    detector, still = FrozenDetector(1.0), picture(40, 40, 3)
    found = []
    for second in range(5):
        handed_out = still.copy()
        found.append(detector.frozen(handed_out, second))
        handed_out[:] = second
    assert found == [False, False, True, True, True]


def test_pictures_that_are_views_of_larger_ones() -> None:
    detector, large = FrozenDetector(1.0), picture(80, 80, 3)
    assert [detector.frozen(large[::2, ::-2], second) for second in range(4)] == [False, False, True, True]


def test_a_connection_goes_on_where_the_one_before_ended() -> None:
    before, still = FrozenDetector(3.0), picture(20, 20, 3)
    for second in range(3):
        assert not before.frozen(still, second)
    after = FrozenDetector(3.0, before)
    assert [after.frozen(still, second) for second in (3, 4, 5)] == [False, True, True]


def test_never() -> None:
    detector = FrozenDetector(None)
    assert not any(detector.frozen(np.zeros((4, 4, 3), np.uint8), second) for second in range(99))
