"""The precision search: builds variants, measures them on this machine, and keeps those that are worth it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from mmedge.agreement import HIGHER_IS_BETTER, deviation
from mmedge.batching import batch_modality
from mmedge.bundle import Manifest, Measurement, seal
from mmedge.comparison import Comparison, compare
from mmedge.errors import EngineError, ExportError, ParityError
from mmedge.loading import load_program
from mmedge_export.options import Options
from mmedge_export.precision.choice import Row, verdicts
from mmedge_export.precision.machine import REFERENCE, Machine, this_machine
from mmedge_export.precision.mixed import excess, nodes_to_keep
from mmedge_export.precision.timing import FrameTimer, is_frame_side, measure, quick
from mmedge_export.precision.variants import FP32, VARIANTS, Precision, Wanted, default_limits
from mmedge_export.precision.workshop import Workshop, finite

WORTH_MS = 1.0
"""A frame that takes less in fp32 is not made faster: calls and conversions would outweigh what rounding saves."""


@dataclass(frozen=True)
class _Candidate:
    """A variant that was built, and what the comparison with the source model says."""

    variant: Precision
    limits: Mapping[str, float]
    compared: Comparison


def search(workshop: Workshop, wanted: Wanted, options: Options, machine: Machine | None = None) -> Manifest:
    """Add variants to the bundle of `workshop`.

    Args:
        workshop: A sealed bundle whose fp32 passed the comparison.
        wanted: From `parse_precision`.
        options: Its `limits`, `metric`, `metric_drop`, `threads` and `force`.
        machine: Where it is measured; None opens this machine's engines.

    Returns:
        The sealed manifest, with the variants that were kept and the table of all that were tried.

    Raises:
        ParityError: A variant that was asked for by name is outside of its limits, also with mixed precision.
    """
    frame_side = any(is_frame_side(workshop.manifest, m) for s in workshop.manifest.stages for m in s.label)
    if not (wanted.auto or wanted.forced) or not workshop.goldens or not frame_side:
        return workshop.manifest
    return _Search(workshop, wanted, options, machine or this_machine(options.threads)).run()


class _Search:
    def __init__(self, workshop: Workshop, wanted: Wanted, options: Options, machine: Machine) -> None:
        self._workshop = workshop
        self._wanted = wanted
        self._options = options
        self._machine = machine
        self._dropped: list[Measurement] = []

    def run(self) -> Manifest:
        with self._workshop.program(FP32, self._machine.engines[REFERENCE]) as program:
            least = quick(FrameTimer(program, self._workshop.goldens))
        names = [variant for variant in VARIANTS.values() if self._is_tried(variant, least)]
        if not names:
            note = f"the reference; a frame takes under {WORTH_MS:g} ms: there is nothing to gain"
            return self._finish([Measurement(FP32, REFERENCE, round(least, 4), True, note)])
        found = {v.name: candidate for v in names if (candidate := self._candidate(v)) is not None}
        for name, candidate in found.items():
            self._workshop.settle(name, candidate.limits, candidate.compared)
        rows = self._by_metric(self._measured(found))
        for name in found:
            if not any(row.kept for row in rows if row.variant == name):
                self._workshop.drop(name)
        return self._finish([*rows, *self._dropped])

    def _is_tried(self, variant: Precision, least: float) -> bool:
        if variant in self._wanted.forced:
            return True
        if variant.rewrite == "dynamic" and batch_modality(self._workshop.manifest) is not None:
            # Its ranges are those of all frames that run at once, so a frame's result would depend on the others.
            return False
        tries = self._wanted.auto and least >= WORTH_MS and variant.name != FP32
        return tries and bool(self._machine.tries(variant))

    def _limits(self, variant: Precision) -> dict[str, float]:
        manifest = self._workshop.manifest
        limits = default_limits(manifest.task, manifest.outputs, variant.cosine)
        return limits | dict((self._options.limits or {}).get(variant.name, {}))

    def _candidate(self, variant: Precision) -> _Candidate | None:
        """Build a variant, with as many nodes in float32 as it needs; None where it is of no use."""
        forced = variant in self._wanted.forced
        if not forced and not self._workshop.nodes(variant):
            self._drop(variant, "no operator of a frame's stages gains by it")
            return None
        if not forced and variant.calibrated and self._options.calibration is None and self._options.metric is None:
            # Ranges that were taken from the samples fit them: the comparison would show nothing of other frames.
            self._drop(variant, "its ranges need frames other than the samples that judge it: give calibration frames")
            return None
        try:
            candidate = self._built(variant)
        except EngineError as error:
            if forced:
                raise ExportError(f"variant {variant.name} was asked for and does not run here: {error}") from error
            self._workshop.drop(variant.name)
            self._drop(variant, f"does not run: {error}")
            return None
        reasons = "; ".join(candidate.compared.reasons)
        if not reasons or (forced and self._options.force):
            return candidate
        if forced:
            raise ParityError(
                f"variant {variant.name} is outside its limits, also with nodes in float32: {reasons}; nothing was "
                "written. Leave it out, or write it marked unverified with force"
            )
        self._workshop.drop(variant.name)
        self._drop(variant, f"outside its limits: {reasons}", candidate.compared)
        return None

    def _built(self, variant: Precision) -> _Candidate:
        nodes = self._workshop.nodes(variant)
        limits = self._limits(variant)
        unsafe = frozenset(self._workshop.unsafe(variant))
        engine = self._engine_of(variant)
        # What this machine computes in float32 is judged by a graph that rounds.
        rounding = variant.rewrite == "half" or (variant.compute != FP32 and not self._machine.tries(variant))

        def attempt(kept: frozenset[str]) -> Comparison:
            self._workshop.build(variant, _ordered(nodes, unsafe | kept), rounding=rounding)
            return self._workshop.judge(variant.name, limits, self._machine.engines[engine])

        compared, kept = attempt(frozenset()), unsafe
        if compared.reasons and variant.rewrite is not None:
            open_nodes = [node for node in nodes if node not in unsafe]
            more = nodes_to_keep(open_nodes, lambda part: _excess(attempt(part), limits))
            kept = unsafe | (more or frozenset())
            compared = attempt(more or frozenset())
        if rounding:
            self._workshop.build(variant, _ordered(nodes, kept))
            if not compared.reasons and variant.rewrite is not None:
                finished = self._workshop.judge(variant.name, limits, self._machine.engines[engine])
                compared = finished if finished.reasons else compared
        return _Candidate(variant, limits, compared)

    def _engine_of(self, variant: Precision) -> str:
        """By which engine a variant is judged."""
        if variant.rewrite is not None:
            return REFERENCE
        return next(iter(self._machine.tries(variant)), REFERENCE)

    def _drop(self, variant: Precision, note: str, compared: Comparison | None = None) -> None:
        """Say in the table why there is no such variant."""
        figures = {} if compared is None else finite(compared.figures)
        self._dropped.append(Measurement(variant.name, REFERENCE, None, False, note, figures))

    def _measured(self, found: Mapping[str, _Candidate]) -> list[Measurement]:
        """Every variant on every engine that takes it here, timed in turn."""
        timers: list[FrameTimer] = []
        kept: list[tuple[Precision, str, Comparison]] = []
        rows: list[Measurement] = []
        with ExitStack() as stack:
            bundle = stack.enter_context(self._workshop.open())
            for name in (FP32, *found):
                variant = VARIANTS[name]
                for engine in self._machine.tries(variant):
                    try:
                        program = load_program(bundle, self._machine.engines[engine], name)
                        compared = compare(program, self._workshop.goldens, self._workshop.manifest.variants[name])
                        if compared.reasons:
                            note = f"outside its limits: {'; '.join(compared.reasons)}"
                            forced = variant in self._wanted.forced
                            rows.append(Measurement(name, engine, None, forced, note, finite(compared.figures)))
                            continue
                        timers.append(FrameTimer(program, self._workshop.goldens))
                    except EngineError as error:
                        rows.append(Measurement(name, engine, None, False, f"does not run: {error}"))
                        continue
                    kept.append((variant, engine, compared))
            times = measure(timers)
        judged = [
            Row(variant, engine, ms, deviation(compared.figures), self._workshop.size(variant.name))
            for (variant, engine, compared), ms in zip(kept, times, strict=True)
        ]
        for (variant, engine, compared), row, (keep, why) in zip(kept, judged, verdicts(judged), strict=True):
            forced = variant in self._wanted.forced
            note = why if keep or not forced else f"asked for; {why}"
            figures = finite(compared.figures)
            rows.append(Measurement(variant.name, engine, round(row.ms, 4), keep or forced, note, figures))
        unmeasured = [c for c in found.values() if c.variant.name not in {row.variant for row in rows}]
        rows.extend(
            Measurement(
                c.variant.name,
                REFERENCE,
                None,
                True,
                "asked for; it is not timed here",
                finite(c.compared.figures),
            )
            for c in unmeasured
        )
        return rows

    def _by_metric(self, rows: list[Measurement]) -> list[Measurement]:
        """Add the task's own figures, and drop what loses more than `metric_drop` of one."""
        metric = self._options.metric
        if metric is None:
            return rows
        drop = self._options.metric_drop
        reference: Mapping[str, float] = {}
        result = []
        for row in rows:
            if not row.kept or row.ms is None or (reference and row.variant == FP32):
                result.append(row)
                continue
            found = dict(metric(self._workshop.folder, row.variant, row.engine))
            reference = reference or found
            lost = [name for name, value in reference.items() if not _kept(found, name, value - drop)]
            row = replace(row, figures={**row.figures, **finite(found)})
            if lost and VARIANTS[row.variant] not in self._wanted.forced:
                named = ", ".join(
                    f"{name} {found.get(name, math.nan):.4g} after {reference[name]:.4g}" for name in lost
                )
                row = replace(row, kept=False, note=f"loses more than {drop:g}: {named}")
            result.append(row)
        return result

    def _finish(self, rows: list[Measurement]) -> Manifest:
        manifest = self._workshop.manifest
        variants = {
            name: replace(entry, figures={**entry.figures, **_worst([r for r in rows if r.variant == name and r.kept])})
            for name, entry in manifest.variants.items()
        }
        done = replace(manifest, variants=variants, measured=tuple(rows), measured_on=self._machine.description)
        self._workshop.manifest = seal(self._workshop.folder, done)
        return self._workshop.manifest


def _kept(found: Mapping[str, float], name: str, least: float) -> bool:
    """A figure that is missing or not a number is lost."""
    return found.get(name, math.nan) >= least


def _ordered(nodes: list[str], kept: frozenset[str]) -> tuple[str, ...]:
    return tuple(node for node in nodes if node in kept)


def _excess(compared: Comparison, limits: Mapping[str, float]) -> float:
    """As `excess`; a variant that fails in another way than by its figures is outside in any case."""
    value = excess(compared.figures, limits)
    return max(value, 1e-9) if compared.reasons else value


def _worst(rows: list[Measurement]) -> dict[str, float]:
    """Each figure as the worst engine has it."""
    found: dict[str, float] = {}
    for row in rows:
        for name, value in row.figures.items():
            pick = min if HIGHER_IS_BETTER.get(name, True) else max
            found[name] = pick(found.get(name, value), value)
    return found
