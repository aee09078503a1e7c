"""``mmedge run``: a bundle over sources, one JSON object a result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmedge.cli.exits import INTERRUPTED
from mmedge.cli.prompts import gather_prompts, set_prompts
from mmedge.cli.session import Session
from mmedge.cli.tally import Tally

if TYPE_CHECKING:
    from mmedge.results import Result
    from mmedge.sources import Frame

_SOURCE_HELP = (
    "Camera number (0), /dev/video0, rtsp://…, a video or picture, a folder, '*.jpg', or tabletop://. "
    "Give it again for further cameras."
)

SAVE_HELP = (
    "Write the frames with their results to this .mp4: one picture a result, at the frame rate of a file, or at the "
    "rate at which a live source's first results came."
)


def run(
    source: Annotated[list[str], typer.Option(help=_SOURCE_HELP)],
    bundle: Annotated[Path | None, typer.Argument(help="NAME.mmedge; without it, the built-in tabletop model.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="A prompt; give it again for more.")] = None,
    text_file: Annotated[Path | None, typer.Option(help="A file with one prompt a line.")] = None,
    save: Annotated[Path | None, typer.Option(help=SAVE_HELP)] = None,
    conf: Annotated[float | None, typer.Option(help="Lowest score of a detection.", min=0, max=1)] = None,
    engine: Annotated[str, typer.Option(help="auto, onnxruntime, onnxruntime:cpu, …")] = "auto",
    precision: Annotated[str | None, typer.Option(help="A variant of the bundle.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the model.", min=1, max=256)] = None,
    policy: Annotated[str, typer.Option(help="freshest, every, or auto: freshest for cameras.")] = "auto",
    frames: Annotated[int | None, typer.Option(help="End after so many results.", min=0)] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds without a frame until a source is lost.", min=0.1, max=1e6)
    ] = 5.0,
    max_age: Annotated[
        float | None, typer.Option(help="Seconds; older frames of a live source are dropped.", min=0.001, max=1e6)
    ] = None,
    max_rate: Annotated[
        float | None, typer.Option(help="Most frames a second, of each source.", min=0.001, max=1e4)
    ] = None,
    reconnect: Annotated[
        str, typer.Option(help="Open a lost camera again: auto, always (from the start, too), or never.")
    ] = "auto",
    show: Annotated[bool, typer.Option("--show", help="Show the frames in a window; q ends.")] = False,
) -> None:
    """Run a bundle over cameras, streams, videos or pictures, and print one JSON object for each result."""
    from mmedge.model import load
    from mmedge.streaming.arguments import POLICIES, RECONNECTS

    if policy not in POLICIES:
        raise typer.BadParameter(f"--policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    if reconnect not in RECONNECTS:
        raise typer.BadParameter(f"--reconnect must be one of {', '.join(RECONNECTS)}, got {reconnect!r}")
    if save is not None and len(source) > 1:
        raise typer.BadParameter("--save takes one --source; run mmedge once for each camera to save several")
    prompts = gather_prompts(text or [], text_file)
    options = {
        "policy": policy,
        "timeout": timeout,
        "max_age": max_age,
        "max_rate": max_rate,
        "reconnect": reconnect,
    }
    session = Session(frames, options, save=save, show=show)
    tally = Tally()
    with load(bundle, engine=engine, precision=precision, threads=threads, threshold=conf) as model:
        set_prompts(model, prompts)
        try:
            session.run(model, source, print_json, tally)
        finally:
            if tally.results:
                sys.stderr.write(f"{tally.summary()}\n")
    if tally.interrupted:
        raise typer.Exit(INTERRUPTED)


def print_json(frame: Frame, result: Result, tally: Tally) -> None:
    """One line of JSON on standard output."""
    print(json.dumps(result.to_json(), ensure_ascii=False), flush=True)
