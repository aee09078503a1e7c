"""The number by which a trigger judges a result."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmedge.errors import InputError
from mmedge.results import Classification, Floats, Grounding, Result
from mmedge.triggers.settings import TriggerSettings, Zone
from mmedge.triggers.zones import inside

SAME_PLACE = 0.5
"""Two boxes whose intersection over union is at least this are about the same thing."""


def score_of(
    settings: TriggerSettings,
    result: Result,
    prompts: Sequence[str] | None,
    zone: Zone | None,
    size: tuple[int, int] | None,
) -> float | None:
    """How strongly a result speaks for a trigger; None where it says nothing about it.

    Args:
        settings: The trigger.
        prompts: What the model was asked for this result, in order; None where that is not known: the labels of the
            result are used then, of which a `Grounding` has those it found.
        zone: The zone that holds for the trigger on this source, or None.
        size: Width and height of the frame; needed with a zone only.

    Raises:
        InputError: The task of the model gives no scores by prompt, or the trigger has a zone and no boxes come.
    """
    if isinstance(result, Classification):
        if zone is not None:
            raise InputError(
                f"trigger {settings.name!r}: zone {zone.name!r} needs a model that finds boxes (task ground), got a "
                "Classification; leave the zone out"
            )
        return _of_classification(settings, result)
    if isinstance(result, Grounding):
        return _of_grounding(settings, result, prompts, zone, size)
    raise InputError(
        f"trigger {settings.name!r}: expected the results of a model of task classify or ground, got "
        f"{type(result).__name__}"
    )


def _of_classification(settings: TriggerSettings, result: Classification) -> float | None:
    scores = dict(zip(result.labels, result.scores.tolist(), strict=True))
    negatives = settings.negatives or ()
    if any(prompt not in scores for prompt in (settings.prompt, *negatives)):
        return None
    own = float(scores[settings.prompt])
    rivals = [float(scores[negative]) for negative in negatives]
    if not rivals:
        return own
    if settings.activation == "none":
        return _softmax(own, rivals)
    if min(own, *rivals) < 0 or max(own, *rivals) > 1:
        raise InputError(
            f"trigger {settings.name!r}: activation {settings.activation!r} means scores in 0..1, got {own:g} and "
            f"{', '.join(f'{rival:g}' for rival in rivals)}; for raw scores it is 'none'"
        )
    total = own + sum(rivals)
    share = own / total if total > 0 else 0.0
    return own * share if settings.activation == "sigmoid" else share


def _softmax(own: float, rivals: Sequence[float]) -> float:
    """The share of `own` in a softmax, without overflow."""
    highest = max(own, *rivals)
    return math.exp(own - highest) / (math.exp(own - highest) + sum(math.exp(rival - highest) for rival in rivals))


def _of_grounding(
    settings: TriggerSettings,
    result: Grounding,
    prompts: Sequence[str] | None,
    zone: Zone | None,
    size: tuple[int, int] | None,
) -> float | None:
    negatives = settings.negatives or ()
    if prompts is not None and any(prompt not in prompts for prompt in (settings.prompt, *negatives)):
        return None
    if zone is None and not negatives and prompts is not None and len(prompts) == len(result.all_scores):
        return float(result.all_scores[prompts.index(settings.prompt)])
    own = np.array([label == settings.prompt for label in result.labels], np.bool_)
    rivals = np.array([label in negatives for label in result.labels], np.bool_)
    kept = own & ~_outdone(result.boxes, result.scores, rivals)
    if zone is not None:
        if size is None:
            raise InputError(
                f"trigger {settings.name!r}: zone {zone.name!r} needs the size of the frame; give `size` with "
                "observations that have no frame"
            )
        kept = np.logical_and(kept, inside(zone, result.boxes, size))
    return float(result.scores[kept].max(initial=0.0))


def _outdone(boxes: Floats, scores: Floats, rivals: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether a rival on the same place scores higher, bool [k]."""
    better = scores[None, rivals] > scores[:, None]
    close = overlaps(boxes, boxes[rivals]) >= SAME_PLACE
    return np.asarray(np.logical_and(close, better).any(axis=1), np.bool_)


def overlaps(first: Floats, second: Floats) -> npt.NDArray[np.float64]:
    """Intersection over union of boxes [n, 4] and [m, 4], xyxy: float64 [n, m]; 0 where both are empty."""
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    areas = [np.clip(box[..., 2:] - box[..., :2], 0, None).prod(axis=-1) for box in (a, b)]
    union: npt.NDArray[np.float64] = areas[0] + areas[1] - shared
    share: npt.NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    return share
