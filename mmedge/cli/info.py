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
    from mmedge.batching import batch_modality
    from mmedge.bundle import open_bundle
    from mmedge.loading import built_in_bundle

    path = bundle or built_in_bundle()
    with open_bundle(path) as opened:
        manifest = opened.manifest
    size = sum(entry.size for entry in manifest.files.values())
    if as_json:
        several = batch_modality(manifest) is not None
        value: dict[str, Any] = {"path": str(path), "bytes": size, "batch": several, **json.loads(manifest.dumps())}
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
    console.print(f"batch: {_batch(manifest)}")
    tables = [_inputs(manifest), _stages(manifest)]
    tables += [_sites(manifest)] if manifest.sites else []
    tables += [_forms(manifest)] if manifest.forms else []
    tables += [_variants(manifest)]
    tables += [_measured(manifest)] if manifest.measured else []
    tables += [_plans(manifest)] if manifest.plans else []
    for table in (*tables, _files(manifest)):
        console.print(table)


def _batch(manifest: Manifest) -> str:
    from mmedge.batching import MOST_FRAMES, batch_modality

    if batch_modality(manifest) is None:
        return "no, frames run one by one"
    return f"yes, up to {MOST_FRAMES} frames at once"


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        right = column in ("MFLOPs", "MB", "bytes", "limit", "ms", "heads")
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
        runs_on += f", form {stage.form}" if stage.form is not None else ""
        table.add_row(
            stage.name,
            runs_on,
            f"{stage.cost.flops / 1e6:,.2f}",
            f"{stage.cost.bytes / 1e6:,.2f}",
            _tensors(stage.outputs),
        )
    return table


def _sites(manifest: Manifest) -> Any:
    title = "Cross-attention: who asks whom, and what the prompt compiler made of it"
    table = _table(title, "site", "asks", "heads", "form", "why")
    for site in manifest.sites:
        asked = f"{' + '.join(site.queries)} asks {' + '.join(site.keys)}"
        table.add_row(printable(site.name), asked, str(site.heads or "?"), site.form, printable(site.why))
    return table


def _forms(manifest: Manifest) -> Any:
    """Which form runs for how many tokens: the words are the same for every prompt count that decides nothing."""
    from mmedge.bundle import TextInput

    table = _table("Forms: the cheapest for the prompts at hand runs", "prompts", *manifest.forms)
    contract = manifest.inputs[str(manifest.deciding)]
    if not isinstance(contract, TextInput):
        return table
    count, length = contract.ids.shape
    for prompts in (1, 4, 16):
        runs: dict[str, list[int]] = {name: [] for name in manifest.forms}
        for tokens in range(1, contract.max_length + 1):
            sizes = {str(count): prompts, str(length): tokens}
            runs[min(manifest.forms, key=lambda name: manifest.forms[name].flops(sizes))].append(tokens)
        table.add_row(str(prompts), *(f"{t[0]} to {t[-1]} tokens" if t else "never" for t in runs.values()))
    return table


def _measured(manifest: Manifest) -> Any:
    title = f"Precision search, measured on {printable(manifest.measured_on)}"
    table = _table(title, "variant", "engine", "ms", "kept", "note", "figures")
    for row in manifest.measured:
        ms = "-" if row.ms is None else f"{row.ms:.2f}"
        figures = "\n".join(f"{printable(name)} {value:.5g}" for name, value in row.figures.items())
        table.add_row(
            printable(row.variant), printable(row.engine), ms, "yes" if row.kept else "no", printable(row.note), figures
        )
    return table


def _plans(manifest: Manifest) -> Any:
    table = _table("Engines built beforehand", "stage", "variant", "engine", "architectures", "bytes")
    for file in dict.fromkeys(plan.file for plan in manifest.plans):
        plans = [plan for plan in manifest.plans if plan.file == file]
        one = plans[0]
        words = (one.stage, one.variant, f"{one.engine} {one.version}", ", ".join(p.architecture for p in plans))
        table.add_row(*map(printable, words), f"{manifest.files[file].size:,}")
    return table


def _variants(manifest: Manifest) -> Any:
    table = _table("Variants, compared with the source model", "precision", "verified", "engines", "found", "limit")
    for name, variant in manifest.variants.items():
        finite = [error for error in variant.errors.values() if error is not None]
        worst = "not finite" if len(finite) < len(variant.errors) else f"{max(finite, default=0.0):.2g}"
        found, limits = f"relative error {worst}", f"{variant.tolerance:g}"
        if variant.limits:
            found = "\n".join(f"{printable(k)} {variant.figures.get(k, float('nan')):.5g}" for k in variant.limits)
            limits = "\n".join(f"{limit:.5g}" for limit in variant.limits.values())
        engines = ", ".join(map(printable, variant.engines)) or "any"
        table.add_row(name, "yes" if variant.verified else "no", engines, found, limits)
    return table


def _files(manifest: Manifest) -> Any:
    table = _table("Files", "name", "bytes")
    for name, entry in manifest.files.items():
        table.add_row(printable(name), f"{entry.size:,}")
    return table


def _tensors(tensors: tuple[TensorSpec, ...]) -> str:
    return "\n".join(f"{printable(t.name)} {t.dtype} [{', '.join(str(size) for size in t.shape)}]" for t in tensors)
