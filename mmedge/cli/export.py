"""``mmedge export``: from a trained model to a bundle."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmedge.cli.text import megabytes, printable
from mmedge.errors import ExportError, MissingDependencyError
from mmedge.targets import TARGETS

if TYPE_CHECKING:
    from mmedge.targets import Target

_INSTALL = 'pip install "mmedge[export]" (Python 3.11 or newer)'


def _known_target(name: str | None) -> str | None:
    if name is not None and name not in TARGETS:
        raise typer.BadParameter(f"unknown target {name!r:.80}; take one of: {', '.join(TARGETS)}")
    return name


def export(
    model: Annotated[str, typer.Argument(help="A bundle, a Hugging Face folder, an .onnx file, or module:function.")],
    out: Annotated[Path, typer.Option(help="NAME.mmedge.")],
    task: Annotated[str, typer.Option(help="For a Hugging Face folder: classify or embed.")] = "classify",
    precision: Annotated[str, typer.Option(help="auto, fp32, or names such as int8,fp16.")] = "auto",
    form: Annotated[str, typer.Option(help="zip or folder.")] = "zip",
    name: Annotated[str | None, typer.Option(help="Name in the manifest; the file's by default.")] = None,
    license_name: Annotated[
        str, typer.Option("--license", help="Licence of the weights, for the manifest.")
    ] = "unknown",
    target: Annotated[
        str | None,
        typer.Option(
            help=f"Check the bundle against a device, and estimate its speed there: {', '.join(TARGETS)}.",
            callback=_known_target,
        ),
    ] = None,
    kernel_pack: Annotated[
        bool | None,
        typer.Option(
            "--kernel-pack/--no-kernel-pack",
            help="With --target: compile the prompt attention of the bundle into NAME.kernels. "
            "Without either, where the target launches kernels between engines.",
        ),
    ] = None,
    batch: Annotated[
        bool,
        typer.Option("--batch", help="Let several frames run at once on the device, such as those of several cameras."),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Write a bundle that fails the parity gate (unverified) or that --target refuses."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Split a trained model into stages, check them against it, and write one bundle."""
    if kernel_pack is not None and target is None:
        raise typer.BadParameter("--kernel-pack needs --target: it says for which GPUs")
    try:
        command = importlib.import_module("mmedge_export.command")
        options = importlib.import_module("mmedge_export").Options
        for_target = importlib.import_module("mmedge_export.for_target") if target is not None else None
    except ImportError as error:
        raise MissingDependencyError(f"export needs a library that cannot be imported ({error}): {_INSTALL}") from error
    chosen = options(name=name, license=license_name, form=form, batch=batch or None, force=force)
    if target is None or for_target is None:
        report = command.export_model(model, out, task=task, precision=precision, options=chosen)
        print(json.dumps(_as_json(report), ensure_ascii=False)) if as_json else _show(report)
        return
    made = for_target.export_for_target(
        model,
        out,
        TARGETS[target],
        task=task,
        precision=precision,
        options=chosen,
        kernel_pack=kernel_pack,
    )
    if as_json:
        print(json.dumps({**_as_json(made.report), **_target_json(made)}, ensure_ascii=False))
    else:
        _show_for_target(made)
    if not made.written:
        raise ExportError(
            f"no variant of the bundle runs on {target}: {out} was not written; write it all the same with --force"
        )


def _as_json(report: Any) -> dict[str, Any]:
    return {
        "path": str(report.path),
        "bytes": _size(report),
        "seconds": round(report.seconds, 2),
        "stages": [{"name": stage.name, "label": list(stage.label)} for stage in report.manifest.stages],
        "verification": report.verification.to_json(),
        "measured": [asdict(row) for row in report.manifest.measured],
        "warnings": list(report.warnings),
    }


def _target_json(made: Any) -> dict[str, Any]:
    return {
        "target": made.target.name,
        "written": made.written,
        "usable": list(made.usable),
        "findings": [finding.to_json() for finding in made.findings],
        "estimates": [estimate.to_json() for estimate in made.estimates],
        "kernels": None if made.kernels is None else str(made.kernels),
    }


def _size(report: Any) -> int:
    return sum(entry.size for entry in report.manifest.files.values())


def _show(report: Any) -> None:
    found = report.verification
    worst = max((error for error in found.errors.values() if error is not None), default=0.0)
    print(f"{report.path}: {megabytes(_size(report))}, made in {report.seconds:.1f} s")
    for stage in report.manifest.stages:
        print(f"  stage {stage.name}: runs on {' + '.join(stage.label) or 'nothing: constant'}")
    print(f"  {'PASS' if found.passed else 'FAIL'}: largest relative error {worst:.2g}, at most {found.tolerance:g}")
    for row in report.manifest.measured:
        time = "" if row.ms is None else f" {row.ms:.2f} ms a frame,"
        fate = "kept" if row.kept else "dropped"
        print(printable(f"  {row.variant} on {row.engine}:{time} {fate}: {row.note}"))
    for line in (*found.reasons, *report.warnings):
        print(f"  {line}")


def _show_for_target(made: Any) -> None:
    target: Target = made.target
    _show(made.report)
    print(f"target {target.name}: {target.note}; {target.runtime}")
    for finding in made.findings:
        print(printable(f"  {finding}"))
    print(f"  variants that run there, as far as was checked: {', '.join(made.usable) or 'none'}")
    if made.kernels is not None:
        print(f"  kernel pack: {made.kernels}")
    for estimate in made.estimates:
        _show_estimate(estimate)
    if made.usable and not made.estimates:
        print("  no estimate: the ceilings of this kind of device are not known")


def _show_estimate(estimate: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    share = importlib.import_module("mmedge_export.estimate").EFFICIENCY
    print(f"{estimate.chip}, {estimate.variant}: an estimate, not measured; assumes {share:.0%} of peak and bandwidth")
    table = Table()
    for column in ("stage", "runs", "ms", "limited by", "weights MB", "activations MB"):
        table.add_column(column, justify="right" if column in ("ms", "weights MB", "activations MB") else "left")
    for stage in estimate.stages:
        table.add_row(
            printable(stage.stage),
            "each frame" if stage.each_frame else "on change",
            _number(stage.seconds, 1e3),
            stage.bound or "",
            _number(stage.weights_bytes, 1e-6),
            _number(stage.activation_bytes, 1e-6),
        )
    Console(highlight=False, markup=False, emoji=False).print(table)
    for form, seconds in estimate.frame_seconds.items():
        print(f"  a frame{f' in form {form}' if form else ''}: {_number(seconds, 1e3)} ms")
    needed, there = megabytes(estimate.memory_bytes), megabytes(estimate.chip_memory_bytes)
    print(f"  memory: at least {needed} of {there}, and what the engine needs for itself, which is not known")


def _number(value: float | None, scale: float) -> str:
    """Three digits: an estimate has no more to say."""
    return "unknown" if value is None else f"{value * scale:.3g}"
