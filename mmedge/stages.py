"""Loaded stages: an engine each, with counters, and the groups in which they run."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmedge.bundle import Stage, TensorSpec
from mmedge.engines import Array, EngineStage, Value
from mmedge.inputs import numpy_dtype


@dataclass(frozen=True)
class StageStats:
    """What a stage did since it was loaded.

    Attributes:
        label: The modalities that it depends on.
        engine, provider, fallbacks: See `EngineStage`.
        runs: How often it ran.
        cache_hits: How often its outputs were at hand instead.
        total_ms, mean_ms, last_ms: Time in the engine.
    """

    label: tuple[str, ...]
    engine: str
    provider: str
    fallbacks: tuple[str, ...] | None
    runs: int
    cache_hits: int
    total_ms: float
    mean_ms: float
    last_ms: float


class LoadedStage:
    """A stage with its engine and its counters."""

    def __init__(self, spec: Stage, engine: EngineStage) -> None:
        self.spec = spec
        self._engine = engine
        self._lock = threading.Lock()
        self._runs = 0
        self._hits = 0
        self._total = 0.0
        self._last = 0.0

    def run(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Run on values of the host or of the engine's device; what an engine leaves on its device stays there."""
        start = time.perf_counter()
        chained = getattr(self._engine, "run_on_device", None)
        result: dict[str, Value] = {}
        if chained is not None:
            result.update(chained({tensor.name: values[tensor.name] for tensor in self.spec.inputs}))
        else:
            result.update(self._engine.run({t.name: on_host(values[t.name], t) for t in self.spec.inputs}))
        took = (time.perf_counter() - start) * 1e3
        with self._lock:
            self._runs += 1
            self._total += took
            self._last = took
        return result

    def hit(self) -> None:
        with self._lock:
            self._hits += 1

    def stats(self) -> StageStats:
        with self._lock:
            return StageStats(
                label=self.spec.label,
                engine=self._engine.engine,
                provider=self._engine.provider,
                fallbacks=self._engine.fallbacks,
                runs=self._runs,
                cache_hits=self._hits,
                total_ms=self._total,
                mean_ms=self._total / self._runs if self._runs else 0.0,
                last_ms=self._last,
            )


def on_host(value: Value, spec: TensorSpec) -> Array:
    """`value` as an array of the host, of the dtype that `spec` promises where it comes from a device."""
    if isinstance(value, np.ndarray):
        return value
    return value.numpy().astype(numpy_dtype(spec), copy=False)


class StageGroup:
    """The stages of one label and form, in order. `takes` comes from outside, `needed` of what they make goes there."""

    def __init__(self, stages: list[LoadedStage], needed: set[str]) -> None:
        self.stages = stages
        made = {tensor.name for stage in stages for tensor in stage.spec.outputs}
        self.takes = {tensor.name for stage in stages for tensor in stage.spec.inputs} - made
        self._gives = sorted(made & needed)

    def run(self, values: Mapping[str, Value]) -> dict[str, Value]:
        known = {name: values[name] for name in self.takes}
        for stage in self.stages:
            known |= stage.run(known)
        return {name: known[name] for name in self._gives}

    def hit(self) -> None:
        for stage in self.stages:
            stage.hit()
