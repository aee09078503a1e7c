"""MODEL_CARD.md: where a bundle comes from, what it was compared with and what was measured, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmedge.bundle import Manifest, TensorSpec
from mmedge_export.options import Options


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
            f"{v.tolerance:.0e}",
            "yes" if v.verified else "**NO**",
        )
        for precision, v in manifest.variants.items()
        for output, error in v.errors.items()
    ]
    return _table(("precision", "output", "relative error", "tolerance", "verified"), rows)


def _accuracy(figures: Mapping[str, str] | None) -> str:
    if not figures:
        return "## Accuracy\n\nNot measured by the exporter: it has no labelled data for this model."
    return "## Accuracy\n\n" + _table(("figure", "measured"), list(figures.items()))


def _tensors(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"`{s.name}` {s.dtype} {list(s.shape)}" for s in specs)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
