"""What an export can be told, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmedge.bundle import Manifest
from mmedge.verification import Verification
from mmedge_export.graph.partition import CALL_SECONDS
from mmedge_export.samples import Sample

TOLERANCE = 1e-4
"""Largest relative error, ||exported - source|| / ||source||, of an fp32 bundle."""

METRIC_DROP = 0.01
"""How much of a figure of its task a variant may lose."""

Metric = Callable[[Path, str, str], Mapping[str, float]]
"""(bundle, precision, engine) -> figures of the task on labelled data, of which higher ones are better."""


@dataclass(frozen=True)
class Options:
    """What an export can be told beyond the model itself.

    Attributes:
        name, version, license: For the manifest; the name defaults to the file's.
        samples: Real inputs by which the bundle is checked; None takes synthetic ones.
        form: ``zip`` or ``folder``.
        tolerance: Largest accepted relative error against the source model.
        force: Write a bundle that fails the parity gate, marked unverified.
        merge_below: Stages that compute for less (estimated seconds) join their only consumer; 0 keeps every stage.
        compile_prompts: Fold standing prompts into cross-attention; False leaves every attention as the model has it.
        calibration: Real inputs whose values give the ranges of int8 and fp16; None takes the samples.
        limits: Variant -> figure of `mmedge.agreement` -> the worst accepted value, in place of the default.
        metric: Measures the task itself; a variant that loses more than `metric_drop` of a figure of fp32 is dropped.
        metric_drop: See `metric`.
        batch: Let several frames run at once on the device (`mmedge.Model.run_batch`), all the same compared with the
            source frame by frame; an error where no stage depends on frames alone, or something in it mixes frames.
            Without ``int8-dynamic``, whose ranges would be those of all frames. None: as a bundle that is exported
            again is, and False for other sources.
        threads: CPU threads of a stage while variants are measured; None leaves it to the engines.
        accuracy: Measured figures for the model card, as {figure: value}.
        notes: A paragraph for the model card, Markdown.
        progress: Show a progress bar; None shows it on a terminal.
    """

    name: str | None = None
    version: str = "1"
    license: str = "unknown"
    samples: Sequence[Sample] | None = None
    form: str = "zip"
    tolerance: float = TOLERANCE
    force: bool = False
    merge_below: float = CALL_SECONDS
    compile_prompts: bool = True
    calibration: Sequence[Sample] | None = None
    limits: Mapping[str, Mapping[str, float]] | None = None
    metric: Metric | None = None
    metric_drop: float = METRIC_DROP
    batch: bool | None = None
    threads: int | None = None
    accuracy: Mapping[str, str] | None = None
    notes: str = ""
    progress: bool | None = None


@dataclass(frozen=True)
class Report:
    """What an export made.

    Attributes:
        path: The bundle.
        manifest: Its manifest.
        verification: The comparison with the source model, run by the device runtime itself.
        warnings: What the user should know, in words.
        seconds: How long it took.
    """

    path: Path
    manifest: Manifest
    verification: Verification
    warnings: tuple[str, ...]
    seconds: float
