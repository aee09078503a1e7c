"""Engines that take as long as a test says, by a clock that the test holds; they compute with ONNX Runtime."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from mmedge.engines import ENGINES, Array, Engine, EngineStage, StageModel, open_engine
from mmedge.errors import EngineError


@dataclass
class Pace:
    """What the engines do.

    Attributes:
        ms: (engine, variant, stage) -> time of a run. What is not named takes 1 ms.
        refused: (engine, variant) that no engine loads.
        wrong: (engine, variant) whose stages' floats come out with another sign.
        static_shapes: Engines that build a program for each shape.
        versions: Engine -> version.
        closed: Engines that were closed.
        now: The clock, in seconds.
        runs: (engine, variant, stage) of each run, with the inputs.
    """

    ms: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)
    wrong: set[tuple[str, str]] = field(default_factory=set)
    static_shapes: set[str] = field(default_factory=set)
    versions: dict[str, str] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    now: float = 0.0
    runs: list[tuple[str, str, str, Mapping[str, Array]]] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        """Make engines of these names, the only ones that ``auto`` considers, and stop the real clock of measuring."""
        for name in names:
            module: Any = SimpleNamespace(create=lambda device, threads, name=name: _Engine(name, self, threads))
            monkeypatch.setitem(sys.modules, f"stand_in_{name}", module)
            monkeypatch.setitem(ENGINES, name, f"stand_in_{name}")
        monkeypatch.setattr("mmedge.selection.AUTO", names)
        monkeypatch.setattr("mmedge.timing.time", SimpleNamespace(perf_counter=lambda: self.now))

    @property
    def measured(self) -> set[tuple[str, str]]:
        """(engine, variant) that ran."""
        return {(engine, precision) for engine, precision, _, _ in self.runs}


class _Engine:
    def __init__(self, name: str, pace: Pace, threads: int | None) -> None:
        self.identity = f"{name} {pace.versions.get(name, '1')} cpu"
        self.static_shapes = name in pace.static_shapes
        self._name = name
        self._pace = pace
        self._real: Engine = open_engine("onnxruntime:cpu", threads=1)

    def load(self, model: StageModel) -> EngineStage:
        if (self._name, model.precision) in self._pace.refused:
            raise EngineError(f"{self._name} takes no {model.precision}")
        return _Stage(self._name, model, self._pace, self._real.load(replace(model, compute="fp32")))

    def close(self) -> None:
        self._pace.closed.add(self._name)


class _Stage:
    def __init__(self, name: str, model: StageModel, pace: Pace, real: EngineStage) -> None:
        self.engine = f"{name} 1"
        self.provider = "cpu"
        self.fallbacks: tuple[str, ...] | None = ()
        self._key = (name, model.precision, model.stage.name)
        self._pace = pace
        self._real = real

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self._pace.now += self._pace.ms.get(self._key, 1.0) / 1e3
        self._pace.runs.append((*self._key, feeds))
        outputs = self._real.run(feeds)
        if self._key[:2] in self._pace.wrong:
            return {name: -array for name, array in outputs.items()}
        return outputs
