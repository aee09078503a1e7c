"""The command line: one verb, one file."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from mmedge.cli.build import build
from mmedge.cli.calibrate import calibrate
from mmedge.cli.demo import demo
from mmedge.cli.doctor import doctor
from mmedge.cli.exits import EPILOG, UNEXPECTED, ErrorGroup, report_unexpected
from mmedge.cli.export import export
from mmedge.cli.info import info
from mmedge.cli.run import run
from mmedge.cli.serve import serve
from mmedge.cli.verify import verify

app = typer.Typer(
    cls=ErrorGroup,
    name="mmedge",
    help="Run camera-plus-text models on robots and smart-home devices.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _verb in (demo, run, serve, calibrate, info, verify, doctor, export, build):
    app.command()(_verb)


def _print_version(wanted: bool) -> None:
    if wanted:
        import mmedge

        print(f"mmedge {mmedge.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Full traces of errors, all log lines, FFmpeg's too.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    if not debug:
        # Libraries log what only they understand.
        logging.getLogger("mmedge").setLevel(logging.INFO)
        # FFmpeg's only switch, read when OpenCV first uses it: its lines say less than our errors, amid them.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line and leave with its exit code."""
    # Asked to end, by systemd for one, we end as with Ctrl-C: files are completed and the summary is printed.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except Exception as error:
        report_unexpected(error, "--debug" in sys.argv)
        sys.exit(UNEXPECTED)
