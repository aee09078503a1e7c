"""How often the answers were right, on the one camera that knows."""

from __future__ import annotations

from mmedge.errors import PromptGrammarError
from mmedge.results import Grounding, Result
from mmedge.sources import PacedSource, Source, TabletopSource
from mmedge.tabletop import Prompt, Truth, matches, parse_prompt

_OVERLAP = 0.5
_SEEN_AT_ALL = 0.01


class TruthScore:
    """Compares results with what the synthetic camera really showed.

    A prompt is answered right when the best box for it overlaps a thing that it describes by at least half
    (intersection over union), or when there is no box and no such thing in full view. Half-hidden things may be found
    and may be missed.

    Args:
        source: Anything but the synthetic camera is not scored.
        prompts: Those outside the camera's grammar are not scored.
    """

    def __init__(self, source: Source, prompts: tuple[str, ...]) -> None:
        inner = source.inner if isinstance(source, PacedSource) else source
        self._camera = inner if isinstance(inner, TabletopSource) else None
        self._prompts = {n: parsed for n, text in enumerate(prompts) if (parsed := _parsed(text)) is not None}
        self.right = 0
        self.asked = 0

    def add(self, result: Result) -> None:
        """Score one result."""
        truth = None if self._camera is None else self._camera.truth(result.frame)
        if truth is None or not isinstance(result, Grounding):
            return
        places = result.prompts.tolist()
        for number, prompt in self._prompts.items():
            box = result.boxes[places.index(number)].tolist() if number in places else None
            self.right += _is_right(prompt, box, truth)
            self.asked += 1

    def summary(self) -> str | None:
        """``812 of 900 answers were right (90.2 %)``; None where nothing could be scored."""
        if not self.asked:
            return None
        return f"{self.right} of {self.asked} answers were right ({100 * self.right / self.asked:.1f} %)"


def _is_right(prompt: Prompt, box: list[float] | None, truth: Truth) -> bool:
    if box is None:
        return not matches(prompt, truth)
    return any(overlap(box, truth.objects[i].box) >= _OVERLAP for i in matches(prompt, truth, visible=_SEEN_AT_ALL))


def overlap(a: list[float], b: tuple[float, ...]) -> float:
    """Intersection over union of two xyxy boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _parsed(text: str) -> Prompt | None:
    try:
        return parse_prompt(text)
    except PromptGrammarError:
        return None
