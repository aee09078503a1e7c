"""The rules that tie the parts of a manifest together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mmedge.bundle.inputs import TensorSpec
from mmedge.errors import BundleFormatError

if TYPE_CHECKING:
    from mmedge.bundle.manifest import Manifest, Stage

_NAME = re.compile(r"[A-Za-z0-9_.\-]+")


def check(manifest: Manifest) -> None:
    """The rules that tie the parts together: every name that is used is defined, before it is used."""
    for stage in manifest.stages:
        for precision in manifest.variants:
            if precision not in stage.files:
                raise BundleFormatError(f"manifest: stage {stage.name!r} has no file for variant {precision!r}")
        for path in stage.files.values():
            if path not in manifest.files:
                raise BundleFormatError(f"manifest: stage {stage.name!r} names {path!r}, which is not in files")
        for modality in stage.label:
            if modality not in manifest.inputs:
                raise BundleFormatError(f"manifest: stage {stage.name!r} depends on unknown modality {modality!r}")
        if stage.form is not None and stage.form not in manifest.forms:
            raise BundleFormatError(f"manifest: stage {stage.name!r} belongs to form {stage.form!r}, which is unknown")
    _check_names(manifest)
    for form in manifest.forms or (None,):
        _check_flow(manifest, [stage for stage in manifest.stages if stage.form in (None, form)])
    _check_forms(manifest)
    _check_plans(manifest)
    if not manifest.variants:
        raise BundleFormatError("manifest: variants must hold at least one precision, got none")


def _check_names(manifest: Manifest) -> None:
    names = [stage.name for stage in manifest.stages]
    for name in (*names, *manifest.inputs, *manifest.variants, *manifest.forms):
        if not _NAME.fullmatch(name.replace("+", "-")):
            raise BundleFormatError(f"manifest: {name!r:.80} is no valid name; use letters, digits, '_', '-', '.', '+'")
    if len(set(names)) != len(names):
        raise BundleFormatError(f"manifest: stage names must differ, got {names}")


def _check_forms(manifest: Manifest) -> None:
    """The sizes that decide between forms must be those of one modality, since it is what decides."""
    axes = {axis for form in manifest.forms.values() for term in form.cost for axis in term.axes}
    if manifest.forms and manifest.deciding is None:
        raise BundleFormatError(f"manifest: forms depend on the axes {sorted(axes)}, which no one modality has")


def _check_plans(manifest: Manifest) -> None:
    stages = {stage.name: stage for stage in manifest.stages}
    for plan in manifest.plans:
        if plan.stage not in stages or plan.variant not in stages[plan.stage].files:
            raise BundleFormatError(
                f"manifest: plan {plan.file!r} is of {plan.stage!r} {plan.variant!r}: no such stage"
            )
        if plan.file not in manifest.files:
            raise BundleFormatError(f"manifest: plan {plan.file!r} is not in files")


def _check_flow(manifest: Manifest, stages: list[Stage]) -> None:
    known: dict[str, set[str]] = {}
    for modality, contract in manifest.inputs.items():
        _define(known, contract.tensors, {modality}, f"modality {modality!r}")
    for stage in stages:
        missing = [t.name for t in stage.inputs if t.name not in known]
        if missing:
            raise BundleFormatError(
                f"manifest: stage {stage.name!r} needs {', '.join(missing)}, which no model input and no earlier stage "
                "gives; a stage is missing or out of order"
            )
        # A stage runs when a modality of its label changes: one that it reads and does not name would go stale.
        hidden = {modality for t in stage.inputs for modality in known[t.name]} - set(stage.label)
        if hidden:
            raise BundleFormatError(
                f"manifest: stage {stage.name!r} has the label {list(stage.label)} and reads {sorted(hidden)} as well; "
                "export the bundle again"
            )
        _define(known, stage.outputs, set(stage.label), f"stage {stage.name!r}")
    lost = [t.name for t in manifest.outputs if t.name not in known]
    if lost:
        raise BundleFormatError(f"manifest: no stage gives the outputs {', '.join(lost)}; a stage is missing")
    absent = [name for name in manifest.task.outputs if name not in {t.name for t in manifest.outputs}]
    if absent:
        raise BundleFormatError(f"manifest: the task needs outputs {', '.join(absent)}, which the model does not have")


def _define(known: dict[str, set[str]], tensors: tuple[TensorSpec, ...], label: set[str], giver: str) -> None:
    for tensor in tensors:
        if tensor.name in known:
            raise BundleFormatError(
                f"manifest: {giver} gives {tensor.name!r}, which is given already; names must differ"
            )
        known[tensor.name] = label
