"""``mmedge doctor``: what this machine has, what it lacks, and how to get it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from mmedge.cli.exits import FAILED

if TYPE_CHECKING:
    from mmedge.cli.checks import Check

_STYLES = {"ok": "green", "absent": "bright_black", "warning": "yellow", "broken": "red"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="The checks as JSON.")] = False) -> None:
    """Check this machine. Exit code 1 means that the runtime itself does not work here."""
    from mmedge.cli.checks import run_checks

    checks = run_checks()
    healthy = all(check.state != "broken" for check in checks)
    if as_json:
        print(json.dumps({"ok": healthy, "checks": [check.to_json() for check in checks]}, ensure_ascii=False))
    else:
        _show(checks)
    if not healthy:
        raise typer.Exit(FAILED)


def _show(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True)
    width = max(len(check.name) for check in checks)
    for check in checks:
        line = Text.assemble((f"{check.state:8}", _STYLES[check.state]), f"{check.name:{width + 1}} {check.found}")
        console.print(line)
        if check.advice:
            console.print(Text(f"{'':{width + 9}} {check.advice}", "italic"))
