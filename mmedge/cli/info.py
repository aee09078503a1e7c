"""``mmedge info``: what is in a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmedge.cli.text import megabytes, printable

if TYPE_CHECKING:
    from mmedge.bundle import Manifest, TensorSpec


def info(
    bundle: Annotated[Path | None, typer.Argument(help="NAME.mmedge; without it, the built-in model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as JSON, with path and size.")] = False,
) -> None:
    """Show what is in a bundle: stages and what they depend on, variants and their parity, files."""
    from mmedge.bundle import open_bundle
    from mmedge.loading import built_in_bundle

    path = bundle or built_in_bundle()
    with open_bundle(path) as opened:
        manifest = opened.manifest
    size = sum(entry.size for entry in manifest.files.values())
    if as_json:
        value: dict[str, Any] = {"path": str(path), "bytes": size, **json.loads(manifest.dumps())}
        print(json.dumps(value, ensure_ascii=False))
    else:
        _show(manifest, path, size)


def _show(manifest: Manifest, path: Path, size: int) -> None:
    from rich.console import Console

    # The words are the bundle's own: nothing in them may act on the terminal.
    console = Console(highlight=False, markup=False, emoji=False)
    task = manifest.task.to_json()
    source = ", ".join(f"{key} {value:.20}" for key, value in manifest.source.items())
    console.print(printable(f"{manifest.name} {manifest.version}"), style="bold")
    console.print(f"{path}, {megabytes(size)} in {len(manifest.files)} files, format {manifest.format}")
    console.print(printable(f"made {manifest.created} by {manifest.producer}; licence {manifest.license}"))
    console.print(printable(f"task {task['kind']}; source model: {source or 'not stated'}"))
    for table in (_inputs(manifest), _stages(manifest), _variants(manifest), _files(manifest)):
        console.print(table)


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        right = column in ("MFLOPs", "MB", "bytes", "tolerance", "largest error")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _inputs(manifest: Manifest) -> Any:
    table = _table("Inputs", "modality", "kind", "tensors", "needed")
    used = {modality for stage in manifest.stages for modality in stage.label}
    for name, contract in manifest.inputs.items():
        kind = str(contract.to_json()["kind"])
        table.add_row(name, kind, _tensors(contract.tensors), "yes" if name in used else "no")
    return table


def _stages(manifest: Manifest) -> Any:
    table = _table(
        "Stages: each runs only when one of its modalities changed", "stage", "runs on", "MFLOPs", "MB", "gives"
    )
    for stage in manifest.stages:
        runs_on = " + ".join(stage.label) or "nothing: constant"
        table.add_row(
            stage.name,
            runs_on,
            f"{stage.cost.flops / 1e6:,.2f}",
            f"{stage.cost.bytes / 1e6:,.2f}",
            _tensors(stage.outputs),
        )
    return table


def _variants(manifest: Manifest) -> Any:
    table = _table("Variants, compared with the source model", "precision", "verified", "tolerance", "largest error")
    for name, variant in manifest.variants.items():
        finite = [error for error in variant.errors.values() if error is not None]
        worst = "not finite" if len(finite) < len(variant.errors) else f"{max(finite, default=0.0):.2g}"
        table.add_row(name, "yes" if variant.verified else "no", f"{variant.tolerance:g}", worst)
    return table


def _files(manifest: Manifest) -> Any:
    table = _table("Files", "name", "bytes")
    for name, entry in manifest.files.items():
        table.add_row(printable(name), f"{entry.size:,}")
    return table


def _tensors(tensors: tuple[TensorSpec, ...]) -> str:
    return "\n".join(f"{printable(t.name)} {t.dtype} [{', '.join(str(size) for size in t.shape)}]" for t in tensors)
