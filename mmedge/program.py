"""The staged program: runs each stage only when one of its own modalities changed.

There are no version counters. What a modality gave (`Prepared`) is an immutable object, and its identity is its
version: a stage runs again if it is asked about other objects than the last time. So a thread may prepare new prompts
while another runs frames, and each run sees one consistent choice of inputs, the one that it was called with.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mmedge.bundle import ImageInput, Manifest, Stage, TextInput
from mmedge.content_cache import ContentCache, content_key
from mmedge.engines import Array, EngineStage
from mmedge.errors import InputError, TensorInputError
from mmedge.inputs import missing_input

CACHE_BYTES = 256 << 20
"""Bound on the prepared values that a program keeps for prompts that may come back."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What one modality gave: the values that other stages or the caller need of it.

    Attributes:
        modality: Its name.
        values: Input tensors and outputs of the stages that depend on this modality alone.
        axes: The tensor and its size along each named axis that other modalities have as well, by the axis.
    """

    modality: str
    values: Mapping[str, Array]
    axes: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in self.values.values())


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


class StagedProgram:
    """Loaded stages and what they gave.

    Args:
        manifest: What the stages are.
        stages: Each stage of the manifest by its name.
        cache_entries: Prompt lists whose values are kept for the day they come back; at least 1.
        cache_bytes: Bound on the size of those values.

    Attributes:
        manifest: As given.
        needed: The modalities without which it cannot run.

    Every method may be called from any thread.

    Raises:
        InputError: `cache_entries` is no whole number of at least 1.
    """

    def __init__(
        self,
        manifest: Manifest,
        stages: Mapping[str, EngineStage],
        *,
        cache_entries: int = 16,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if isinstance(cache_entries, bool) or not isinstance(cache_entries, int) or cache_entries < 1:
            raise InputError(f"the prompt cache must hold at least 1 prompt list, got {cache_entries!r}")
        self.manifest = manifest
        self._outputs = [tensor.name for tensor in manifest.outputs]
        self._groups = _groups(manifest, stages)
        # A modality that no stage reads may be given, and need not be, unless its tensors are outputs themselves.
        read = {modality for stage in manifest.stages for modality in stage.label}
        given = {m for m, spec in manifest.inputs.items() if any(t.name in self._outputs for t in spec.tensors)}
        self.needed = frozenset(read | given)
        self._shared = _shared_axes(manifest)
        self._last: dict[tuple[str, ...], tuple[tuple[Prepared, ...], Mapping[str, Array]]] = {}
        # Sensor windows rarely come back, but a caller may set the same tensors at each frame: the last one is enough.
        # Frames always differ, and hashing them would cost more than it saves.
        self._caches: dict[str, ContentCache[Prepared]] = {
            name: ContentCache(cache_entries if isinstance(contract, TextInput) else 1, cache_bytes)
            for name, contract in manifest.inputs.items()
            if not isinstance(contract, ImageInput)
        }

    def prepare(self, modality: str, tensors: Mapping[str, Array]) -> Prepared:
        """Run the stages that depend on `modality` alone.

        The same content of a text or tensor modality gives the same object again, without running anything. Frames are
        new each time, and are not compared.

        Args:
            tensors: Every tensor of the modality by its name.

        Raises:
            InputError: There is no such modality, or `tensors` are not its tensors.
            EngineError: A stage failed.
        """
        self._check_tensors(modality, tensors)
        cache = self._caches.get(modality)
        if cache is None:
            return self._prepare(modality, tensors)
        key = content_key(tensors)
        known = cache.get(key)
        if known is None:
            return cache.put(key, self._prepare(modality, tensors))
        if (modality,) in self._groups:
            self._groups[(modality,)].hit()
        return known

    def run(self, inputs: Mapping[str, Prepared]) -> dict[str, Array]:
        """The model's outputs by name for one choice of inputs.

        Args:
            inputs: What `prepare` gave for each modality.

        Raises:
            InputError: A modality is missing; the type of the error is that of the modality.
            TensorInputError: A named axis has one size in one modality and another in the next.
            EngineError: A stage failed.
        """
        for name, contract in self.manifest.inputs.items():
            if name not in inputs and name in self.needed:
                raise missing_input(name, contract)
        _check_axes(inputs)
        values = dict(self._constants())
        for prepared in inputs.values():
            values.update(prepared.values)
        for label, group in self._groups.items():
            if len(label) > 1:
                values.update(self._once(group, tuple(inputs[name] for name in label), values))
        return {name: values[name] for name in self._outputs}

    def stats(self) -> dict[str, StageStats]:
        """What each stage did, by its name."""
        return {stage.spec.name: stage.stats() for group in self._groups.values() for stage in group.stages}

    def _check_tensors(self, modality: str, tensors: Mapping[str, Array]) -> None:
        contract = self.manifest.inputs.get(modality)
        if contract is None:
            raise InputError(f"the model has no modality {modality!r}; it has {', '.join(self.manifest.inputs)}")
        names = {tensor.name for tensor in contract.tensors}
        if set(tensors) != names:
            raise TensorInputError(f"modality {modality!r} takes the tensors {sorted(names)}, got {sorted(tensors)}")

    def _prepare(self, modality: str, tensors: Mapping[str, Array]) -> Prepared:
        label = (modality,)
        elsewhere = set(self._outputs).union(*(g.takes for key, g in self._groups.items() if key != label))
        values = {name: tensor for name, tensor in tensors.items() if name in elsewhere}
        if label in self._groups:
            values |= self._groups[label].run({**self._constants(), **tensors})
        axes = {
            axis: (spec.name, size)
            for spec in self.manifest.inputs[modality].tensors
            for axis, size in zip(spec.shape, tensors[spec.name].shape, strict=False)
            if axis in self._shared
        }
        return Prepared(modality, values, axes)

    def _constants(self) -> Mapping[str, Array]:
        return self._once(self._groups[()], (), {}) if () in self._groups else {}

    def _once(self, group: _Group, key: tuple[Prepared, ...], values: Mapping[str, Array]) -> Mapping[str, Array]:
        last = self._last.get(group.label)
        if last is not None and all(before is now for before, now in zip(last[0], key, strict=True)):
            group.hit()
            return last[1]
        result = group.run(values)
        self._last[group.label] = (key, result)
        return result


class _LoadedStage:
    """A stage with its engine and its counters."""

    def __init__(self, spec: Stage, engine: EngineStage) -> None:
        self.spec = spec
        self._engine = engine
        self._lock = threading.Lock()
        self._runs = 0
        self._hits = 0
        self._total = 0.0
        self._last = 0.0

    def run(self, values: Mapping[str, Array]) -> dict[str, Array]:
        start = time.perf_counter()
        result = self._engine.run({tensor.name: values[tensor.name] for tensor in self.spec.inputs})
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


class _Group:
    """The stages of one label, in order. `takes` are the values that come from outside, `gives` those needed there."""

    def __init__(self, label: tuple[str, ...], stages: list[_LoadedStage], needed: set[str]) -> None:
        self.label = label
        self.stages = stages
        made = {tensor.name for stage in stages for tensor in stage.spec.outputs}
        self.takes = {tensor.name for stage in stages for tensor in stage.spec.inputs} - made
        self._gives = sorted(made & needed)

    def run(self, values: Mapping[str, Array]) -> dict[str, Array]:
        known = {name: values[name] for name in self.takes}
        for stage in self.stages:
            known |= stage.run(known)
        return {name: known[name] for name in self._gives}

    def hit(self) -> None:
        for stage in self.stages:
            stage.hit()


def _shared_axes(manifest: Manifest) -> set[str]:
    """The named axes that stand in more than one modality."""
    counts: Counter[str] = Counter()
    for contract in manifest.inputs.values():
        counts.update({axis for spec in contract.tensors for axis in spec.shape if isinstance(axis, str)})
    return {axis for axis, count in counts.items() if count > 1}


def _check_axes(inputs: Mapping[str, Prepared]) -> None:
    known: dict[str, tuple[str, int]] = {}
    for prepared in inputs.values():
        for axis, (tensor, size) in prepared.axes.items():
            other, expected = known.setdefault(axis, (tensor, size))
            if size != expected:
                raise TensorInputError(
                    f"axis {axis!r} must have one size: it is {expected} in {other!r} and {size} in {tensor!r}; "
                    "set both anew"
                )


def _groups(manifest: Manifest, stages: Mapping[str, EngineStage]) -> dict[tuple[str, ...], _Group]:
    """The stages by label, smaller labels first: a stage takes values of its own label and of smaller ones only."""
    labels: dict[tuple[str, ...], list[_LoadedStage]] = {}
    for stage in manifest.stages:
        labels.setdefault(tuple(sorted(stage.label)), []).append(_LoadedStage(stage, stages[stage.name]))
    groups = {}
    for label in sorted(labels, key=len):
        needed = {tensor.name for tensor in manifest.outputs}
        for other, members in labels.items():
            if other != label:
                needed.update(tensor.name for member in members for tensor in member.spec.inputs)
        groups[label] = _Group(label, labels[label], needed)
    return groups
