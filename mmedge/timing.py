"""A short measurement of every stage of a bundle, in each variant and on each engine that may run it."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

from mmedge.bundle import Bundle, Golden, Manifest, TextInput
from mmedge.engines import Array, Engine, EngineStage, StageModel
from mmedge.errors import BundleFormatError, EngineError
from mmedge.loading import stage_models
from mmedge.program import named_sizes

_log = logging.getLogger("mmedge")

BUDGET_S = 6.0
"""Variants are measured until this time is over; the first one always is."""

_ROUNDS = 7
_STAGE_S = 0.6
"""A stage is run in rounds, all engines in turn, until one of these bounds is met."""

Candidates = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Variant -> stage -> engines."""


@dataclass(frozen=True)
class Timing:
    """One way of running a bundle.

    Attributes:
        precision: The variant.
        engines: The engine of each stage by the stage's name.
        ms: The stages that a frame runs, added up.
    """

    precision: str
    engines: Mapping[str, str]
    ms: float

    def __str__(self) -> str:
        places: dict[str, list[str]] = {}
        for stage, spec in self.engines.items():
            places.setdefault(spec, []).append(stage)
        if len(places) == 1:
            return f"{self.precision} on {next(iter(places))}"
        return f"{self.precision} on " + ", ".join(f"{spec} ({', '.join(names)})" for spec, names in places.items())


def measure(bundle: Bundle, candidates: Candidates, engines: Mapping[str, Engine], golden: Golden) -> list[Timing]:
    """Each variant with the fastest engine of each stage, and with each engine alone; fastest first.

    Variants that were fast on the machine that made the bundle come first. A variant that no engine loads is left out.

    Args:
        candidates: What may run.
        engines: The engines by the names that `candidates` uses.
        golden: Gives the inputs; the outputs of each stage feed the next.

    Raises:
        BundleFormatError: `golden` lacks an input.
    """
    manifest = bundle.manifest
    counted = _frame_stages(manifest, golden)
    rows: list[Timing] = []
    started = time.perf_counter()
    order = sorted(candidates, key=lambda name: _promise(manifest, name, candidates[name]))
    for place, precision in enumerate(order):
        try:
            table = _stages(bundle, precision, candidates[precision], engines, golden)
        except EngineError as error:
            _log.info("%s: variant %s is left out: %s", manifest.name, precision, error)
            continue
        rows.extend(_combinations(precision, table, counted))
        if time.perf_counter() - started > BUDGET_S and place + 1 < len(order):
            _log.info("%s: not measured, for lack of time: %s", manifest.name, ", ".join(order[place + 1 :]))
            break
    return sorted(rows, key=lambda row: row.ms)


def _promise(manifest: Manifest, precision: str, stages: Mapping[str, tuple[str, ...]]) -> float:
    """How fast it was where the bundle was made; rows of engines that are not here say nothing."""
    here = {spec.partition(":")[0] for specs in stages.values() for spec in specs}
    known = [row.ms for row in manifest.measured if row.variant == precision and row.engine in here]
    return min((ms for ms in known if ms is not None), default=math.inf)


def _frame_stages(manifest: Manifest, golden: Golden) -> set[str]:
    """The stages that run for each frame, in the form that the golden's sizes choose.

    Text changes rarely. Of a model without frames and sensors it is all that there is.
    """
    form = None
    if manifest.deciding is not None:
        sizes = named_sizes(manifest.inputs[manifest.deciding].tensors, _inputs(manifest, golden))
        form = min(manifest.forms, key=lambda name: manifest.forms[name].flops(sizes))
    running = [stage for stage in manifest.stages if stage.label and stage.form in (None, form)]
    fast = {name for name, contract in manifest.inputs.items() if not isinstance(contract, TextInput)}
    return {stage.name for stage in running if fast & set(stage.label) or not fast}


def _inputs(manifest: Manifest, golden: Golden) -> dict[str, Array]:
    names = [tensor.name for contract in manifest.inputs.values() for tensor in contract.tensors]
    missing = [name for name in names if name not in golden.inputs]
    if missing:
        raise BundleFormatError(f"goldens.npz: a sample lacks the inputs {', '.join(missing)}; export the bundle again")
    return {name: golden.inputs[name] for name in names}


def _stages(
    bundle: Bundle,
    precision: str,
    candidates: Mapping[str, tuple[str, ...]],
    engines: Mapping[str, Engine],
    golden: Golden,
) -> dict[str, dict[str, float]]:
    """Stage -> engine -> milliseconds. Raises EngineError where no engine runs a stage."""
    manifest = bundle.manifest
    models = {model.stage.name: model for model in stage_models(bundle, precision)}
    table: dict[str, dict[str, float]] = {}
    outputs: dict[str, dict[str, Array]] = {}
    for form in manifest.forms or (None,):
        values = _inputs(manifest, golden)
        for stage in (stage for stage in manifest.stages if stage.form in (None, form)):
            if stage.name not in table:
                feeds = {tensor.name: values[tensor.name] for tensor in stage.inputs}
                offered = {spec: engines[spec] for spec in candidates[stage.name]}
                table[stage.name], outputs[stage.name] = _race(models[stage.name], offered, feeds)
            values.update(outputs[stage.name])
    return table


def _race(
    model: StageModel, engines: Mapping[str, Engine], feeds: Mapping[str, Array]
) -> tuple[dict[str, float], dict[str, Array]]:
    """Median milliseconds by engine, and the outputs of the first engine that could run the stage."""
    stages, outputs, refused = _loaded(model, engines, feeds)
    if not stages:
        raise EngineError(f"no engine runs stage {model.stage.name!r}: {'; '.join(refused)}")
    times: dict[str, list[float]] = {spec: [] for spec in stages}
    started = time.perf_counter()
    for _ in range(_ROUNDS):
        for spec, stage in stages.items():
            before = time.perf_counter()
            stage.run(feeds)
            times[spec].append((time.perf_counter() - before) * 1e3)
        if time.perf_counter() - started > _STAGE_S:
            break
    return {spec: statistics.median(taken) for spec, taken in times.items()}, outputs


def _loaded(
    model: StageModel, engines: Mapping[str, Engine], feeds: Mapping[str, Array]
) -> tuple[dict[str, EngineStage], dict[str, Array], list[str]]:
    """The stage on each engine that takes it and ran it once, the first one's outputs, and what the others said."""
    stages: dict[str, EngineStage] = {}
    outputs: dict[str, Array] = {}
    refused = []
    for spec, engine in engines.items():
        try:
            stage = engine.load(model)
            found = stage.run(feeds)
        except EngineError as error:
            _log.debug("%s on %s: %s", model.precision, spec, error)
            refused.append(str(error))
            continue
        stages[spec] = stage
        outputs = outputs or found
    return stages, outputs, refused


def _combinations(precision: str, table: Mapping[str, Mapping[str, float]], counted: set[str]) -> list[Timing]:
    fastest = {stage: min(times, key=lambda spec: times[spec]) for stage, times in table.items()}
    ways = [fastest]
    for spec in dict.fromkeys(spec for times in table.values() for spec in times):
        if all(spec in times for times in table.values()):
            ways.append(dict.fromkeys(table, spec))
    rows: list[Timing] = []
    for way in ways:
        ms = sum(table[stage][spec] for stage, spec in way.items() if stage in counted)
        if all(way != row.engines for row in rows):
            rows.append(Timing(precision, way, ms))
    return rows
