"""``mmedge build``: engines for a kind of device, built here and carried by the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmedge.cli.text import megabytes, printable

if TYPE_CHECKING:
    from mmedge.engines.tensorrt.prebuild import Prebuilt


def build(
    bundle: Annotated[Path, typer.Argument(help="NAME.mmedge.")],
    target: Annotated[str, typer.Option(help="rtx: desktop GPUs from Turing on. Others build on the device.")] = "rtx",
    out: Annotated[Path | None, typer.Option(help="The new bundle; without it, BUNDLE is replaced.")] = None,
    arch: Annotated[
        list[str] | None, typer.Option(help="Such as sm_89, several times; all of the target by default.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="A variant, several times; fp32 and fp16 by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What was built as JSON.")] = False,
) -> None:
    """Build TensorRT-RTX engines for every stage, without a GPU, and put them into the bundle."""
    from mmedge.engines.tensorrt.prebuild import prebuild

    made = prebuild(bundle, out, target=target, architectures=arch or (), precisions=precision or ())
    if as_json:
        print(json.dumps(made.to_json(), ensure_ascii=False))
    else:
        _show(made)


def _show(made: Prebuilt) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{made.path}: engines of {made.engine} {made.version}, one for all architectures of a row"
    table = Table(title=printable(title), title_justify="left")
    for column in ("stage", "variant", "architectures", "size", "seconds"):
        table.add_column(column, justify="right" if column in ("size", "seconds") else "left", overflow="fold")
    for row in made.rows:
        seconds = f"{row.seconds:.1f}" if row.seconds else "same graph"
        names = (printable(row.stage), printable(row.variant), ", ".join(row.architectures))
        table.add_row(*names, megabytes(row.bytes), seconds)
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(table)
    missing: dict[str, list[str]] = {}
    for row in made.rows:
        for architecture, why in row.lacking.items():
            missing.setdefault(architecture, []).append(f"{row.stage} {row.variant}: {why}")
    for architecture, reasons in missing.items():
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        console.print(printable(f"not for {architecture}: {reasons[0]}{more}"))
