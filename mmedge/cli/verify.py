"""``mmedge verify``: does a bundle give here what its source model gave?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmedge.cli.exits import FAILED

if TYPE_CHECKING:
    from mmedge.verification import Verification


def verify(
    bundle: Annotated[Path | None, typer.Argument(help="NAME.mmedge; without it, the built-in model.")] = None,
    engine: Annotated[str, typer.Option(help="auto, onnxruntime, onnxruntime:cpu, …")] = "auto",
    precision: Annotated[str | None, typer.Option(help="A variant of the bundle.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Replay a bundle's goldens on this device and say PASS or FAIL, with numbers. Exit code 1 means FAIL."""
    from mmedge.loading import built_in_bundle
    from mmedge.verification import verify as replay

    found = replay(bundle or built_in_bundle(), engine=engine, precision=precision)
    if as_json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _show(found)
    if not found.passed:
        raise typer.Exit(FAILED)


def _show(found: Verification) -> None:
    print(f"{'PASS' if found.passed else 'FAIL'}  {found.bundle}, {found.precision}, {found.samples} samples")
    for stage, engine in found.engines.items():
        print(f"  stage {stage}: {engine}")
    for name, error in found.errors.items():
        measured = "not finite" if error is None else f"{error:.2g}"
        limit = "" if found.limits else f", at most {found.tolerance:g}"
        print(f"  output {name}: relative error {measured}{limit}")
    for name, value in found.figures.items():
        print(f"  {name} {value:.4g}{_limit(name, found.limits)}")
    for sample in found.preparation:
        parts = []
        if sample.pixels_max_abs is not None:
            parts.append(f"pixels differ by at most {sample.pixels_max_abs:.2g} (limit {sample.pixels_limit:.2g})")
        if sample.tokens_equal is not None:
            parts.append("tokens are equal" if sample.tokens_equal else "tokens differ")
        print(f"  preparation of sample {sample.sample}: {', '.join(parts)}")
    for reason in found.reasons:
        print(f"  {reason}")


def _limit(name: str, limits: Mapping[str, float]) -> str:
    from mmedge.agreement import HIGHER_IS_BETTER

    if name not in limits:
        return ""
    return f", {'at least' if HIGHER_IS_BETTER[name] else 'at most'} {limits[name]:g}"
