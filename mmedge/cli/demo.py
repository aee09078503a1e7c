"""``mmedge demo``: the built-in model on the built-in camera."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmedge.cli.exits import INTERRUPTED
from mmedge.cli.run import SAVE_HELP, print_json
from mmedge.cli.session import Session
from mmedge.cli.tally import Tally

if TYPE_CHECKING:
    from mmedge.cli.session import Report
    from mmedge.results import Result
    from mmedge.sources import Frame

PROMPTS = (
    "the red cube",
    "a ball",
    "the green cylinder",
    "the blue cone",
    "a yellow thing",
    "a cube left of the ball",
)


def demo(
    source: Annotated[str, typer.Option(help="The synthetic camera, or any source that `run` takes.")] = "tabletop://",
    text: Annotated[list[str] | None, typer.Option(help="What to look for; give it again for more.")] = None,
    frames: Annotated[int | None, typer.Option(help="End after so many results.", min=0)] = None,
    seconds: Annotated[float | None, typer.Option(help="End after so many seconds.", min=0)] = None,
    save: Annotated[Path | None, typer.Option(help=SAVE_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each result.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Show the frames in a window; q ends.")] = False,
) -> None:
    """Look for things on a synthetic robot's table, live. Needs no camera, no GPU, no display and no network."""
    from mmedge.cli.live import Lines, LiveTable
    from mmedge.cli.score import TruthScore
    from mmedge.model import load
    from mmedge.sources import open_source

    tally = Tally()
    session = Session(frames=frames, seconds=seconds, save=save, show=show)
    with closing(open_source(source)) as opened, load() as model, ExitStack() as screen:
        model.set_text(text or PROMPTS)
        score = TruthScore(opened, model.prompts)
        shown: Report = print_json if as_json else Lines(model.prompts)
        if sys.stdout.isatty() and not as_json:
            shown = screen.enter_context(LiveTable(model.prompts))

        def report(frame: Frame, result: Result, tally: Tally) -> None:
            score.add(result)
            shown(frame, result, tally)

        try:
            session.run(model, [opened], report, tally)
        finally:
            screen.close()
            if tally.results:
                # One write with its line end, or what others write to the terminal could come in between.
                sys.stderr.write("".join(f"{line}\n" for line in (tally.summary(), score.summary()) if line))
    if tally.interrupted:
        raise typer.Exit(INTERRUPTED)
