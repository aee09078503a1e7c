"""What goes to a sink, and what every sink offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from mmedge.results import Result
from mmedge.sources.frame import Frame
from mmedge.streaming.states import StateChange
from mmedge.triggers.event import Event


@dataclass(frozen=True, eq=False)
class Observation:
    """A result and the frame that it is about.

    Attributes:
        frame: With privacy applied, and never to be written to: sinks share it. None where no pixels may leave.
        result: What the model says about it. `result.source` names the source.
    """

    frame: Frame | None
    result: Result


@dataclass(frozen=True)
class PromptsChange:
    """Other prompts are in force.

    Attributes:
        model: Name of the model in the device file; ``model`` where there is one only.
        sources: Names of the sources that it watches.
        prompts: In the order of the scores.
        version: The `Result.prompt_version` that answers them.
        at_utc: When.
    """

    model: str
    sources: tuple[str, ...]
    prompts: tuple[str, ...]
    version: int
    at_utc: datetime


Item = Observation | StateChange | Event | PromptsChange


class Sink(Protocol):
    """A place where results go.

    `write` is called from one thread, in the order in which things happened, and may block:
    `mmedge.sinks.queued.Queued` stands between it and the camera. An error that it raises is counted and logged there;
    the sink is asked again with the next item, and mends itself if it can (opens the file again, connects again).
    """

    @property
    def kind(self) -> str:
        """``jsonl``, ``mqtt``, …"""
        ...

    def write(self, item: Item) -> None:
        """Take one item. Kinds of items that mean nothing to the sink are passed over."""
        ...

    def close(self) -> None:
        """Finish what is open. Called once, from the thread that calls `write`, after the last item."""
        ...


class Control(Protocol):
    """What a sink that takes commands may do."""

    def set_prompts(self, model: str, prompts: Sequence[str]) -> int:
        """Put other prompts in force; returns their version.

        Raises:
            InputError: There is no such model, or the prompts cannot be used. The old ones stay.
        """
        ...


@dataclass(frozen=True)
class Watched:
    """One source, as sinks need to know it before its first result.

    Attributes:
        name: As in results.
        model: Name of the model that watches it.
        prompts: In force when the sink was opened.
        triggered: The prompts for which a trigger tells events on this source.
        boxes: The model's task finds boxes.
    """

    name: str
    model: str
    prompts: tuple[str, ...]
    triggered: tuple[str, ...] = ()
    boxes: bool = False


@dataclass(frozen=True)
class SinkContext:
    """What a sink may want to know when it is opened.

    Attributes:
        device: Name of the device, for topics and titles.
        sources: All that will come.
        control: For sinks that take commands; None where nothing may be changed.
        pixels: False: no picture ever comes, and none may be announced.
    """

    device: str = "mmedge"
    sources: tuple[Watched, ...] = ()
    control: Control | None = None
    pixels: bool = True


@dataclass
class SinkCounters:
    """What a queued sink did so far.

    Attributes:
        written: Items that the sink took.
        dropped: Items that found the queue full; the oldest observations go first.
        errors: Items at which the sink failed.
        last_error: What it said last, without secrets.
    """

    written: int = 0
    dropped: int = 0
    errors: int = 0
    last_error: str | None = field(default=None)
