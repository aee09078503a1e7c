"""``mmedge export``: from a trained model to a bundle."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mmedge.cli.text import megabytes
from mmedge.errors import MissingDependencyError

_INSTALL = 'pip install "mmedge[export]" (Python 3.11 or newer)'


def export(
    model: Annotated[str, typer.Argument(help="A Hugging Face folder, an .onnx file, or module:function.")],
    out: Annotated[Path, typer.Option(help="NAME.mmedge.")],
    task: Annotated[str, typer.Option(help="For a Hugging Face folder: classify or embed.")] = "classify",
    precision: Annotated[str, typer.Option(help="auto or fp32.")] = "auto",
    form: Annotated[str, typer.Option(help="zip or folder.")] = "zip",
    name: Annotated[str | None, typer.Option(help="Name in the manifest; the file's by default.")] = None,
    license_name: Annotated[
        str, typer.Option("--license", help="Licence of the weights, for the manifest.")
    ] = "unknown",
    force: Annotated[
        bool, typer.Option("--force", help="Write a bundle that fails the parity gate, unverified.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Split a trained model into stages, check them against it, and write one bundle."""
    try:
        command = importlib.import_module("mmedge_export.command")
        options = importlib.import_module("mmedge_export").Options
    except ImportError as error:
        raise MissingDependencyError(f"export needs a library that cannot be imported ({error}): {_INSTALL}") from error
    chosen = options(name=name, license=license_name, form=form, force=force)
    report = command.export_model(model, out, task=task, precision=precision, options=chosen)
    print(json.dumps(_as_json(report), ensure_ascii=False)) if as_json else _show(report)


def _as_json(report: Any) -> dict[str, Any]:
    return {
        "path": str(report.path),
        "bytes": _size(report),
        "seconds": round(report.seconds, 2),
        "stages": [{"name": stage.name, "label": list(stage.label)} for stage in report.manifest.stages],
        "verification": report.verification.to_json(),
        "warnings": list(report.warnings),
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
    for line in (*found.reasons, *report.warnings):
        print(f"  {line}")
