"""Exit codes, and what a user sees when something fails."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from mmedge.errors import (
    BundleError,
    ConfigError,
    EngineError,
    ExportError,
    InputError,
    MissingDependencyError,
    MmedgeError,
    PromptGrammarError,
    SinkError,
    SourceError,
    TaskError,
)

FAILED = 1
USAGE = 2
_LIBRARY = 6
UNEXPECTED = 70
INTERRUPTED = 130

_CODES: tuple[tuple[type[MmedgeError], int], ...] = (
    (BundleError, 3),
    (TaskError, 3),
    (InputError, 4),
    (PromptGrammarError, 4),
    (SourceError, 5),
    (EngineError, 6),
    (MissingDependencyError, _LIBRARY),
    (ExportError, 7),
    (SinkError, 8),
    (ConfigError, 4),
    (MmedgeError, 70),
)

EPILOG = (
    "Exit codes: 0 done · 1 a check failed · 2 wrong usage · 3 bundle · 4 input, prompt or device file · 5 source · "
    "6 engine or missing library · 7 export · 8 output not written · 70 a defect in mmedge · 130 interrupted. "
    "Results go to standard output, progress and logs to standard error."
)


def exit_code(error: MmedgeError) -> int:
    """The exit code for an error of ours."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


class ErrorGroup(TyperGroup):
    """Turns what a command raises into one message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MmedgeError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(exit_code(error)) from error
        except ImportError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            # OpenCV, for one, installs without the system libraries that it loads.
            print(f"error: a library cannot be loaded: {error}; `mmedge doctor` says which and how", file=sys.stderr)
            raise typer.Exit(_LIBRARY) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            # Whoever read our output went away, as `head` does. Nothing may be written at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from error


def report_unexpected(error: Exception, debug: bool) -> None:
    """Say that this is a defect, and how to learn more; with `debug`, the whole trace."""
    if debug:
        traceback.print_exc()
    print(f"error: unexpected {type(error).__name__}: {error}", file=sys.stderr)
    if not debug:
        print("This is a defect in mmedge. Run it again as `mmedge --debug ...` for the trace.", file=sys.stderr)
