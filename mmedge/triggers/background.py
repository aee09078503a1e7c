"""A clip of the background, as scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmedge.errors import InputError
from mmedge.results import Result
from mmedge.triggers.scores import score_of
from mmedge.triggers.settings import Activation, TriggerSettings, needed_prompts
from mmedge.triggers.thresholds import Goal, PromptThresholds, thresholds


class Background:
    """Collects the scores of live results, and sets thresholds from them.

    Args:
        negatives: By prompt, its negatives.
        activation: Of a classify task, see `TriggerSettings`.

    Raises:
        InputError: There is no prompt, one of them cannot be used, or, with raw scores, some have negatives and some
            have none: shares and raw scores cannot be compared.

    Attributes:
        prompts: What the model must be asked for, in this order.
        bounded: Whether the scores of the triggers lie in 0..1.
        passed_over: Results that were not live.
        name: Of the source; empty before the first result.
    """

    def __init__(self, negatives: Mapping[str, Sequence[str]], *, activation: Activation = "softmax") -> None:
        if not negatives:
            raise InputError("a calibration needs at least one prompt")
        self._negatives = {prompt: tuple(rivals) for prompt, rivals in negatives.items()}
        self._triggers = [
            TriggerSettings(prompt, prompt, negatives=rivals, activation=activation)
            for prompt, rivals in self._negatives.items()
        ]
        self.prompts = needed_prompts(self._triggers)
        self._plain = [TriggerSettings(prompt, prompt) for prompt in self.prompts]
        raw = activation == "none"
        with_negatives = sum(bool(rivals) for rivals in self._negatives.values())
        if raw and 0 < with_negatives < len(self._negatives):
            lacking = next(prompt for prompt, rivals in self._negatives.items() if not rivals)
            raise InputError(
                f"negatives must be there for every prompt of a model with raw scores; {lacking!r} has none"
            )
        if raw and with_negatives:
            self._plain = self._triggers
        self.bounded = not raw or with_negatives > 0
        self._times: list[float] = []
        self._wanted: list[list[float]] = []
        self._everything: list[list[float]] = []
        self.passed_over = 0
        self.name = ""

    def add(self, result: Result) -> None:
        """Take a result; those that are not live, or that came out of order, are passed over.

        Raises:
            InputError: The model gives no scores by prompt, or other scores than its bundle says.
        """
        # A file is read faster than it plays; its own clock is the one that counts.
        time = result.captured if result.media_time_s is None else result.media_time_s
        if result.state != "live" or (self._times and time <= self._times[-1]):
            self.passed_over += 1
            return
        wanted = [score_of(trigger, result, self.prompts, None, None) for trigger in self._triggers]
        everything = [score_of(trigger, result, self.prompts, None, None) for trigger in self._plain]
        self.name = result.source
        self._times.append(time)
        self._wanted.append([0.0 if score is None else score for score in wanted])
        self._everything.append([0.0 if score is None else score for score in everything])

    @property
    def frames(self) -> int:
        """Results taken."""
        return len(self._times)

    @property
    def seconds(self) -> float:
        """From the first one to the last."""
        return self._times[-1] - self._times[0] if self._times else 0.0

    def thresholds(self, goal: Goal) -> tuple[PromptThresholds, ...]:
        """See `mmedge.triggers.thresholds.thresholds`.

        Raises:
            InputError: The clip is too short, or does not move.
        """
        wanted, everything = np.array(self._wanted, np.float64), np.array(self._everything, np.float64)
        return thresholds(
            np.array(self._times, np.float64),
            {prompt: wanted[:, i] for i, prompt in enumerate(self._negatives)} if self._times else {},
            {trigger.prompt: everything[:, i] for i, trigger in enumerate(self._plain)} if self._times else {},
            self._negatives,
            goal,
        )
