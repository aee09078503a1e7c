"""From the scores of a background to the thresholds of a trigger.

False alarms are rare, and a clip of half a minute holds none of them: the threshold lies beyond every score that was
seen. It is found in four steps.

1. Scores in 0..1 are taken as log-odds, which have no end to bump into.
2. A trigger sees what lasts: each score is replaced by the lowest one of the last `min_duration` seconds. Successive
   frames say nearly the same, so what counts is the highest such value of each second.
3. Above their median, these peaks thin out exponentially, at a pace that belongs to model and camera rather than to the
   prompt: the mean height above the median, taken as the median over all prompts and negatives. A prompt by itself has
   too few peaks in half a minute, and one odd second would decide.
4. The line is drawn out to where it promises one false alarm in so many hours, and at least one such height above the
   highest peak.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmedge.errors import InputError

Series = npt.NDArray[np.float64]

SHORTEST_S = 10.0
_BLOCK_S = 1.0
_LEAST, _MOST = 1e-9, 1 - 1e-6
_STEPS_DOWN = 2.0
"""From `on` to `off`, in mean heights of the peaks above their median."""

_HIGH, _REFUSED = 0.95, 0.9999
_CLIP_S = 30.0


@dataclass(frozen=True)
class PromptThresholds:
    """What a background says about a prompt.

    Attributes:
        prompt, negatives: As the trigger has them.
        on, off: The thresholds; both NaN where no score is left for them, see `refused`.
        on_range: `on` for a background that is calmer or livelier than the clip by one standard error of it.
        typical, highest: Median and highest of the peaks of the seconds.
        refused: Why there are no thresholds; None where there are.
        warnings: What the user should look at.
    """

    prompt: str
    negatives: tuple[str, ...]
    on: float
    off: float
    on_range: tuple[float, float]
    typical: float
    highest: float
    refused: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Goal:
    """What thresholds are for.

    Attributes:
        false_alarms_per_hour: Of each prompt.
        min_duration: Of the triggers, in seconds.
        floor: `on` is never below it: the model's own idea of what counts. None: it has none.
        bounded: Scores lie in 0..1; else they are raw.
    """

    false_alarms_per_hour: float
    min_duration: float
    floor: float | None
    bounded: bool


def peaks(times: Series, scores: Series, min_duration: float) -> Series:
    """The highest score of each second that was held for `min_duration`; seconds without frames are left out.

    Args:
        times: Seconds [n], ascending.
        scores: [n].
    """
    first = np.searchsorted(times, times - min_duration - 1e-6)
    held = np.array([scores[begin : end + 1].min() for end, begin in enumerate(first)])
    whole = times - times[0] >= min_duration - 1e-6
    # What is left over at the end belongs to the last whole second.
    last = max((times[-1] - times[0]) // _BLOCK_S - 1, 0)
    blocks = np.minimum((times - times[0]) // _BLOCK_S, last)
    return np.array([held[whole & (blocks == block)].max() for block in np.unique(blocks[whole])])


def thresholds(
    times: Series,
    wanted: Mapping[str, Series],
    everything: Mapping[str, Series],
    negatives: Mapping[str, Sequence[str]],
    goal: Goal,
) -> tuple[PromptThresholds, ...]:
    """Thresholds of each prompt in `wanted`.

    Args:
        times: When the frames were taken, seconds [n], ascending.
        wanted: By prompt, the scores of its trigger [n].
        everything: By prompt and negative, the scores [n] that tell the pace.
        negatives: By prompt.
        goal: What they are for.

    Raises:
        InputError: The clip is shorter than 10 seconds and the minimum duration, has fewer than 2 frames a second, or
            never changes.
    """
    seconds = float(times[-1] - times[0]) if len(times) else 0.0
    shortest = SHORTEST_S + goal.min_duration
    if seconds < shortest or len(times) < 2 * seconds:
        raise InputError(
            f"a background clip must be {shortest:g} s and longer (10 s and the minimum duration), with at least 2 "
            f"frames a second; got {len(times)} frames in {seconds:.1f} s"
        )
    heights = [_height(peaks(times, _widened(scores, goal), goal.min_duration)) for scores in everything.values()]
    pace = float(np.median(heights))
    if pace == 0 and goal.floor is None:
        raise InputError(
            "the scores of the clip never change, which says nothing about what usually goes on; is it a still picture?"
        )
    return tuple(
        _of_prompt(prompt, peaks(times, _widened(scores, goal), goal.min_duration), pace, negatives[prompt], goal)
        for prompt, scores in wanted.items()
    )


def _height(tops: Series) -> float:
    above = tops[tops > np.median(tops)] - np.median(tops)
    return float(above.mean()) if above.size else 0.0


def _of_prompt(prompt: str, tops: Series, pace: float, negatives: Sequence[str], goal: Goal) -> PromptThresholds:
    typical, highest = float(np.median(tops)), float(tops.max())
    # Half of the seconds lie above the median.
    reach = math.log(max(0.5 * 3600 / _BLOCK_S / goal.false_alarms_per_hour, 1.0))
    error = 1 / math.sqrt(max(len(tops) / 2, 1))
    floor = -math.inf if goal.floor is None else _wide(goal.floor, goal)
    on, low, high = (
        max(typical + pace * reach * share, highest + pace, floor) for share in (1.0, 1 - error, 1 + error)
    )
    off = on - _STEPS_DOWN * pace
    narrow = [_narrow(value, goal) for value in (on, off, low, high, typical, highest)]
    refused = _refusal(narrow[0], narrow[5], goal)
    return PromptThresholds(
        prompt=prompt,
        negatives=tuple(negatives),
        on=math.nan if refused else narrow[0],
        off=math.nan if refused else min(narrow[1], narrow[0]),
        on_range=(narrow[2], narrow[3]),
        typical=narrow[4],
        highest=narrow[5],
        refused=refused,
        warnings=() if refused else _warnings(narrow[0], narrow[4], narrow[5], len(tops), goal),
    )


def _refusal(on: float, highest: float, goal: Goal) -> str | None:
    if not goal.bounded or on < _REFUSED:
        return None
    return (
        f"the background scores up to {highest:.4f}, which leaves no room for a threshold below {_REFUSED:g}: record "
        "it without the thing, word the prompt more closely, or give what it was mistaken for as a negative"
    )


def _warnings(on: float, typical: float, highest: float, blocks: int, goal: Goal) -> tuple[str, ...]:
    warnings = []
    if blocks * _BLOCK_S < _CLIP_S - 1:
        warnings.append(f"{blocks} s are a short clip: take {_CLIP_S:g} s and more, with all that usually goes on")
    seen = goal.floor if goal.floor is not None else (0.5 if goal.bounded else math.inf)
    if typical >= seen:
        warnings.append(
            f"it scores {typical:.4f} and more half of the time: it seems to be in the background; record it without "
            "the thing"
        )
    elif highest >= seen:
        warnings.append(
            f"it scored up to {highest:.4f}: if the thing was there, record again without it; if not, give what it was "
            "mistaken for as a negative"
        )
    if goal.bounded and on >= _HIGH:
        remedy = "" if highest >= _HIGH else "; a longer clip and some negatives tell the pace better"
        warnings.append(f"a threshold of {on:.4f} leaves little room: things that are there may be missed{remedy}")
    return tuple(warnings)


def _widened(scores: Series, goal: Goal) -> Series:
    if not goal.bounded:
        return scores
    clipped = np.clip(scores, _LEAST, _MOST)
    wide: Series = np.log(clipped / (1 - clipped))
    return wide


def _wide(score: float, goal: Goal) -> float:
    return float(_widened(np.array([score], np.float64), goal)[0])


def _narrow(value: float, goal: Goal) -> float:
    return 1 / (1 + math.exp(-value)) if goal.bounded else value
