"""What `mmedge demo` prints."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from mmedge.cli.tally import Tally
from mmedge.cli.text import printable
from mmedge.results import Grounding, Result
from mmedge.sources import Frame

_REDRAW_S = 0.1


@dataclass(frozen=True)
class Answer:
    """The best candidate for one prompt; `box` is None where it is no detection."""

    prompt: str
    score: float
    box: tuple[float, ...] | None


def answers(result: Result, prompts: tuple[str, ...]) -> list[Answer]:
    """One answer for each prompt; none for results that find no boxes."""
    if not isinstance(result, Grounding):
        return []
    boxes: dict[int, tuple[float, ...]] = {}
    for prompt, box in zip(result.prompts.tolist(), result.boxes.tolist(), strict=True):
        # Detections come best first.
        boxes.setdefault(prompt, tuple(box))
    scores = result.all_scores.tolist()
    return [Answer(prompt, scores[n], boxes.get(n)) for n, prompt in enumerate(prompts)]


class LiveTable:
    """A table on the terminal that follows the results."""

    def __init__(self, prompts: tuple[str, ...]) -> None:
        self._prompts = prompts
        # Prompts are the user's own words: nothing in them is markup.
        self._live = Live(console=Console(markup=False, emoji=False), auto_refresh=False)
        self._drawn = 0.0

    def __call__(self, frame: Frame, result: Result, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._drawn >= _REDRAW_S:
            self._drawn = now
            self._live.update(self._table(result, tally), refresh=True)

    def _table(self, result: Result, tally: Tally) -> Table:
        table = Table(title=f"{printable(result.source)}\n{_headline(result, tally)}", title_justify="left")
        table.add_column("prompt")
        table.add_column("score", justify="right")
        table.add_column("box in pixels", min_width=24)
        for answer in answers(result, self._prompts):
            place = "not found" if answer.box is None else _pixels(answer.box)
            table.add_row(
                printable(answer.prompt), f"{answer.score:.2f}", place, style="dim" if answer.box is None else ""
            )
        return table

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class Lines:
    """One line on standard output for each result."""

    def __init__(self, prompts: tuple[str, ...]) -> None:
        self._prompts = prompts

    def __call__(self, frame: Frame, result: Result, tally: Tally) -> None:
        found = [a for a in answers(result, self._prompts) if a.box is not None]
        words = "; ".join(f"{a.prompt} {a.score:.2f} at {_pixels(a.box or ())}" for a in found)
        print(f"{_headline(result, tally)}: {words or 'nothing found'}", flush=True)


def _headline(result: Result, tally: Tally) -> str:
    return f"frame {result.frame}, {tally.rate:.1f}/s, age {result.age_ms:.0f} ms, dropped {tally.dropped}"


def _pixels(box: tuple[float, ...]) -> str:
    return " ".join(f"{side:.0f}" for side in box)
