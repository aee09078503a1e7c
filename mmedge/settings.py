"""What the callers set last: prompts, and tensors that are neither frame nor text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mmedge.engines import Array
from mmedge.moment import Moment, age_ms
from mmedge.program import Prepared
from mmedge.results import Stamp
from mmedge.sources.frame import Frame


@dataclass(frozen=True)
class Settings:
    """Never changed, but replaced as a whole: whoever holds one sees all of a change or nothing of it.

    Attributes:
        labels: The prompts, () before the first; None for a model without text.
        warnings: What is to be known of them.
        version: Counts the lists of prompts, and the bundles.
        inputs: What each modality gave, by its name.
        tensors: What `inputs` was made of, for the modalities that are neither frame nor text.
        moments: When the tensors of each modality came, by its name. Prompts do not age.
    """

    labels: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()
    version: int = 0
    inputs: Mapping[str, Prepared] = field(default_factory=dict)
    tensors: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    moments: Mapping[str, Moment] = field(default_factory=dict)

    def with_text(self, prepared: Prepared, labels: tuple[str, ...], warnings: tuple[str, ...]) -> Settings:
        """These settings with other prompts."""
        inputs = {**self.inputs, prepared.modality: prepared}
        return replace(self, labels=labels, warnings=warnings, version=self.version + 1, inputs=inputs)

    def with_tensors(self, prepared: Prepared, tensors: Mapping[str, Array], moment: Moment) -> Settings:
        """These settings with other tensors of one modality."""
        name = prepared.modality
        return replace(
            self,
            inputs={**self.inputs, name: prepared},
            tensors={**self.tensors, name: tensors},
            moments={**self.moments, name: moment},
        )

    def stamp(self, frame: Frame, moments: Mapping[str, Moment], started: float) -> Stamp:
        """What is said with the answer about `frame`.

        Args:
            moments: Those whose ages are said.
            started: When the work on it began, seconds of `time.monotonic`.
        """
        # One moment for all: taken one after the other, a pause between them made the age less than the latency.
        now = time.monotonic()
        return Stamp(
            source=frame.source,
            frame=frame.index,
            captured=frame.captured,
            captured_at=frame.captured_at,
            age_ms=age_ms(frame.captured, now),
            input_ages_ms={name: age_ms(moment.captured, now) for name, moment in moments.items()},
            dropped=frame.dropped,
            state=frame.state,
            media_time_s=frame.media_time_s,
            prompt_version=self.version,
            latency_ms=(now - started) * 1e3,
            warnings=self.warnings,
        )
