"""MODEL_CARD.md: where a bundle comes from, what it was compared with and what was measured, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmedge.agreement import HIGHER_IS_BETTER
from mmedge.bundle import Manifest, TensorSpec
from mmedge_export.options import Options

_NODES = 20
"""Names of nodes that the card spells out."""


def model_card(manifest: Manifest, options: Options) -> str:
    """The card of a bundle whose parity is known.

    Args:
        manifest: With the measured variants.
        options: Its `accuracy` and `notes` go into the card as they are.
    """
    parts = [
        f"# {manifest.name}\n\nVersion {manifest.version}, made by {manifest.producer} on {manifest.created}. "
        f"Licence of the model: {manifest.license}.",
        options.notes,
        "## Origin\n\n" + _table(("", ""), sorted(manifest.source.items())),
        "## Inputs\n\n"
        + _table(("modality", "tensors"), [(n, _tensors(c.tensors)) for n, c in manifest.inputs.items()]),
        "## Stages\n\nA stage runs only when one of the modalities in its label changed.\n\n" + _stages(manifest),
        "## Parity\n\nLargest relative error, ‖bundle − source‖ / ‖source‖, over the samples in `goldens.npz`, as run "
        "by the device runtime from the finished stages.\n\n" + _parity(manifest),
        _variants(manifest),
        _measured(manifest),
        _accuracy(options.accuracy),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _stages(manifest: Manifest) -> str:
    rows = [
        (s.name, ", ".join(s.label) or "none", f"{s.cost.flops / 1e6:,.2f}", f"{s.cost.bytes / 1e6:,.2f}")
        for s in manifest.stages
    ]
    at = ", ".join(f"{axis} = {size}" for axis, size in manifest.stages[0].cost.at.items()) if manifest.stages else ""
    note = f"\n\nCounted from the graph, for {at}." if at else "\n\nCounted from the graph."
    return _table(("stage", "depends on", "MFLOP a run", "MB a run"), rows) + note


def _parity(manifest: Manifest) -> str:
    rows = [
        (
            precision,
            output,
            "not finite" if error is None else f"{error:.2e}",
            f"{v.tolerance:.0e}" if not v.limits else "see below",
            "yes" if v.verified else "**NO**",
        )
        for precision, v in manifest.variants.items()
        for output, error in v.errors.items()
    ]
    return _table(("precision", "output", "relative error", "tolerance", "verified"), rows)


def _variants(manifest: Manifest) -> str:
    """What variants that round are judged by."""
    rounding = {name: variant for name, variant in manifest.variants.items() if variant.limits}
    if not rounding:
        return ""
    rows = [
        (name, figure, _figure(variant.figures.get(figure)), f"{'at least' if higher else 'at most'} {limit:g}")
        for name, variant in rounding.items()
        for figure, limit in variant.limits.items()
        for higher in (HIGHER_IS_BETTER[figure],)
    ]
    kept = [
        f"`{name}` leaves {len(variant.kept_fp32)} nodes in float32, because they left the range or the comparison "
        f"failed: {', '.join(f'`{node}`' for node in variant.kept_fp32[:_NODES])}"
        f"{' and others' if len(variant.kept_fp32) > _NODES else ''}."
        for name, variant in rounding.items()
        if variant.kept_fp32
    ]
    return "\n\n".join(
        [
            "Variants that round are judged by what their outputs are used for, on the same samples; the worst engine "
            "counts.",
            _table(("precision", "figure", "measured", "accepted"), rows),
            *kept,
        ]
    )


def _measured(manifest: Manifest) -> str:
    if not manifest.measured:
        return ""
    names = list(dict.fromkeys(name for row in manifest.measured for name in row.figures))
    rows = [
        (
            row.variant,
            row.engine,
            "" if row.ms is None else f"{row.ms:.2f}",
            *(_figure(row.figures.get(name)) for name in names),
            "yes" if row.kept else "no",
            row.note,
        )
        for row in manifest.measured
    ]
    return (
        "## Precision search\n\nMedian time of what runs for each frame, at the sizes of the samples, in interleaved "
        f"rounds on {manifest.measured_on}.\n\n" + _table(("precision", "engine", "ms", *names, "kept", "why"), rows)
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _accuracy(figures: Mapping[str, str] | None) -> str:
    if not figures:
        return "## Accuracy\n\nNot measured by the exporter: it has no labelled data for this model."
    return "## Accuracy\n\n" + _table(("figure", "measured"), list(figures.items()))


def _tensors(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"`{s.name}` {s.dtype} {list(s.shape)}" for s in specs)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
