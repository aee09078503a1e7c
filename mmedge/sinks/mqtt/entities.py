"""What the sensors of one source show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from mmedge.results import Classification, Grounding
from mmedge.sinks.sink import Watched
from mmedge.triggers.event import Event

ON, OFF = b"ON", b"OFF"

Kind = Literal["event", "detected", "score"]

_SCORE_EVERY_S = 1.0
_MOST_EVENTS = 64


class Sensors:
    """A sensor for each prompt of one source.

    - ``event``: on while something goes on that a trigger tells;
    - ``detected``: without a trigger, where the model finds boxes: on while there are some, and for `off_delay` seconds
      after;
    - ``score``: without a trigger and without boxes: the score, at most once a second.

    Args:
        watched: The source.
        off_delay: Seconds.
    """

    def __init__(self, watched: Watched, off_delay: float) -> None:
        self.watched = watched
        self._off_delay = off_delay
        self._shown: dict[str, bytes] = {}
        self._going_on: dict[str, dict[str, None]] = {}
        self._seen: dict[str, float] = {}
        self._next_scores = -math.inf
        self.prompts: tuple[str, ...] = ()
        self.set_prompts(watched.prompts)

    def kind(self, prompt: str) -> Kind:
        """What the sensor of a prompt shows."""
        if prompt in self.watched.triggered:
            return "event"
        return "detected" if self.watched.boxes else "score"

    def set_prompts(self, prompts: tuple[str, ...]) -> None:
        """Have sensors for these prompts and no others."""
        self.prompts = tuple(dict.fromkeys(prompts))
        for held in (self._shown, self._going_on, self._seen):
            for prompt in held.keys() - set(self.prompts):
                del held[prompt]
        for prompt in self.prompts:
            if self.kind(prompt) != "score":
                self._shown.setdefault(prompt, OFF)

    def shown(self) -> dict[str, bytes]:
        """By prompt; a score that was never measured is not there."""
        return dict(self._shown)

    def event(self, event: Event) -> None:
        """Something began, goes on or is over."""
        if event.prompt not in self.prompts or self.kind(event.prompt) != "event":
            return
        going_on = self._going_on.setdefault(event.prompt, {})
        if event.kind == "end":
            going_on.pop(event.id, None)
        else:
            going_on[event.id] = None
            while len(going_on) > _MOST_EVENTS:
                del going_on[next(iter(going_on))]
        self._shown[event.prompt] = ON if going_on else OFF

    def result(self, result: object) -> None:
        """There is a new result. One that is not about what is there now shows nothing."""
        if isinstance(result, Grounding) and result.state == "live":
            for prompt in result.labels:
                self._seen[prompt] = result.captured
            for prompt in self._of("detected"):
                since = result.captured - self._seen.get(prompt, -math.inf)
                self._shown[prompt] = ON if since <= self._off_delay else OFF
        elif isinstance(result, Classification) and result.state == "live":
            if result.captured < self._next_scores:
                return
            self._next_scores = result.captured + _SCORE_EVERY_S
            scores = dict(zip(result.labels, result.scores.tolist(), strict=True))
            for prompt in self._of("score"):
                if math.isfinite(score := scores.get(prompt, math.nan)):
                    self._shown[prompt] = f"{score:.4f}".encode()

    def lost(self) -> None:
        """The source is not live: nothing is detected there."""
        self._seen.clear()
        for prompt in self._of("detected"):
            self._shown[prompt] = OFF

    def _of(self, kind: Kind) -> Iterator[str]:
        return (prompt for prompt in self.prompts if self.kind(prompt) == kind)
