"""The staged program: runs each stage only when one of its own modalities changed.

There are no version counters. What a modality gave (`Prepared`) is an immutable object, and its identity is its
version: a stage runs again if it is asked about other objects than the last time. So a thread may prepare new prompts
while another runs frames, and each run sees one consistent choice of inputs, the one that it was called with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mmedge.batching import MOST_FRAMES, batch_modality, crossing, divide, join
from mmedge.bundle import ImageInput, Manifest, TensorSpec, TextInput
from mmedge.content_cache import ContentCache, content_key
from mmedge.engines import Array, EngineStage, Value
from mmedge.errors import InputError, TensorInputError
from mmedge.inputs import missing_input
from mmedge.stages import LoadedStage, StageGroup, StageStats, on_host

_Key = tuple[tuple[str, ...], str | None]
"""Label and form of a group of stages."""

CACHE_BYTES = 256 << 20
"""Bound on the prepared values that a program keeps for prompts that may come back."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What one modality gave: the values that other stages or the caller need of it.

    Attributes:
        modality: Its name.
        values: Input tensors and outputs of the stages that depend on this modality alone.
        axes: The tensor and its size along each named axis that other modalities have as well, by the axis.
        form: The form that its sizes chose; None unless it is the modality that decides.
    """

    modality: str
    values: Mapping[str, Value]
    axes: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    form: str | None = None

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in self.values.values())


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
        batched: The modality whose stages `prepare_batch` runs; None where frames run one by one.
        max_batch: Most frames that it takes; 1 where frames run one by one.

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
        self._stages = dict(stages)
        self._outputs = [tensor.name for tensor in manifest.outputs]
        self._groups = _groups(manifest, stages)
        # A modality that no stage reads may be given, and need not be, unless its tensors are outputs themselves.
        read = {modality for stage in manifest.stages for modality in stage.label}
        given = {m for m, spec in manifest.inputs.items() if any(t.name in self._outputs for t in spec.tensors)}
        self.needed = frozenset(read | given)
        self._shared = _shared_axes(manifest)
        self._deciding = manifest.deciding
        self.batched = batch_modality(manifest)
        self._crossing = {} if self.batched is None else crossing(manifest, self.batched)
        self._frames = "" if self.batched is None else str(manifest.inputs[self.batched].tensors[0].shape[0])
        self.max_batch = 1 if self.batched is None else MOST_FRAMES
        self._plans = {(m, form): self._plan(m, form) for m in manifest.inputs for form in (None, *manifest.forms)}
        self._last: dict[_Key, tuple[tuple[Prepared, ...], Mapping[str, Value]]] = {}
        # Sensor windows rarely come back, but a caller may set the same tensors at each frame: the last one is enough.
        # Frames always differ, and hashing them would cost more than it saves.
        self._caches: dict[str, ContentCache[Prepared]] = {
            name: ContentCache(cache_entries if isinstance(contract, TextInput) else 1, cache_bytes)
            for name, contract in manifest.inputs.items()
            if not isinstance(contract, ImageInput)
        }

    def prepare(self, modality: str, tensors: Mapping[str, Array], *, form: str | None = None) -> Prepared:
        """Run the stages that depend on `modality` alone.

        The same content of a text or tensor modality gives the same object again, without running anything. Frames are
        new each time, and are not compared.

        Args:
            tensors: Every tensor of the modality by its name.
            form: For the modality that decides: the form to run; None for the one that costs least for these sizes.

        Raises:
            InputError: There is no such modality or form, or `tensors` are not its tensors.
            EngineError: A stage failed.
        """
        self._check_tensors(modality, tensors)
        if form is not None and (form not in self.manifest.forms or modality != self._deciding):
            raise InputError(f"{modality!r} chooses between the forms {list(self.manifest.forms)}, got {form!r}")
        cache = self._caches.get(modality)
        if cache is None or form is not None:
            return self._prepare(modality, tensors, form)
        key = content_key(tensors)
        known = cache.get(key)
        if known is None:
            return cache.put(key, self._prepare(modality, tensors, None))
        for own in dict.fromkeys((None, known.form)):
            if group := self._groups.get(((modality,), own)):
                group.hit()
        return known

    def prepare_batch(self, batch: Sequence[Mapping[str, Array]]) -> list[Prepared]:
        """`prepare` for several frames: the stages that depend on frames alone run once for all of them.

        Args:
            batch: The pixel tensor of each frame, [1, ...], by its name; at most `max_batch`.

        Returns:
            What each frame gave, with values of its own.

        Raises:
            InputError: There are none, or more than `max_batch`, or the bundle takes one frame at a time.
            EngineError: A stage failed, or gave something else than the manifest says.
        """
        modality = self.batched
        if modality is None or not 1 <= len(batch) <= self.max_batch:
            raise InputError(f"{self.manifest.name} takes 1 to {self.max_batch} frames at once, got {len(batch)}")
        for tensors in batch:
            self._check_tensors(modality, tensors)
        whole = self._prepare(modality, join(batch), None)
        made = {name: value for name, value in whole.values.items() if name not in batch[0]}
        parts = divide(made, self._crossing, self._frames, len(batch))
        kept = [{name: tensors[name] for name in tensors if name in whole.values} for tensors in batch]
        return [Prepared(modality, {**own, **part}, whole.axes) for own, part in zip(kept, parts, strict=True)]

    def fresh(self) -> StagedProgram:
        """The same loaded stages with nothing remembered or counted, so that what runs in it leaves no trace here."""
        return StagedProgram(self.manifest, self._stages)

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
        form = None if self._deciding is None else inputs[self._deciding].form
        values = self._constants(form)
        for prepared in inputs.values():
            values.update(prepared.values)
        for key, group in self._groups.items():
            label, own = key
            # Of one modality `prepare` ran what it could: what belongs to a form that another modality chose is open.
            late = len(label) > 1 or (own is not None and label != (self._deciding,))
            if label and late and own in (None, form):
                values.update(self._once(key, group, tuple(inputs[name] for name in label), values))
        return {tensor.name: on_host(values[tensor.name], tensor) for tensor in self.manifest.outputs}

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

    def _prepare(self, modality: str, tensors: Mapping[str, Array], form: str | None) -> Prepared:
        if form is None and modality == self._deciding:
            form = self._form(tensors)
        keys, elsewhere = self._plans[modality, form]
        known = {**self._constants(form), **tensors}
        values: dict[str, Value] = {}
        for key in keys:
            values.update(self._groups[key].run({**known, **values}))
        values = {name: array for name, array in {**tensors, **values}.items() if name in elsewhere}
        axes = {
            axis: (spec.name, size)
            for spec in self.manifest.inputs[modality].tensors
            for axis, size in zip(spec.shape, tensors[spec.name].shape, strict=False)
            if axis in self._shared
        }
        return Prepared(modality, values, axes, form)

    def _plan(self, modality: str, form: str | None) -> tuple[list[_Key], set[str]]:
        """The groups that hang on one modality alone, and the names of what is wanted outside of them."""
        label = (modality,)
        keys: list[_Key] = [(label, own) for own in dict.fromkeys((None, form)) if (label, own) in self._groups]
        return keys, set(self._outputs).union(*(g.takes for key, g in self._groups.items() if key not in keys))

    def _form(self, tensors: Mapping[str, Array]) -> str:
        """The form in which a frame costs least for the sizes of these tensors of the deciding modality."""
        sizes = named_sizes(self.manifest.inputs[str(self._deciding)].tensors, tensors)
        return min(self.manifest.forms, key=lambda name: self.manifest.forms[name].flops(sizes))

    def _constants(self, form: str | None) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key in ((), None), ((), form):
            if key in self._groups:
                values.update(self._once(key, self._groups[key], (), values))
        return values

    def _once(
        self, key: _Key, group: StageGroup, of: tuple[Prepared, ...], values: Mapping[str, Value]
    ) -> Mapping[str, Value]:
        last = self._last.get(key)
        if last is not None and all(before is now for before, now in zip(last[0], of, strict=True)):
            group.hit()
            return last[1]
        result = group.run(values)
        self._last[key] = (of, result)
        return result


def named_sizes(specs: Iterable[TensorSpec], tensors: Mapping[str, Array]) -> dict[str, int]:
    """The size of each named axis in these tensors."""
    return {
        axis: size
        for spec in specs
        for axis, size in zip(spec.shape, tensors[spec.name].shape, strict=False)
        if isinstance(axis, str)
    }


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


def _groups(manifest: Manifest, stages: Mapping[str, EngineStage]) -> dict[_Key, StageGroup]:
    """The stages by label and form, in an order in which they can run.

    A stage takes values of its own label and of smaller ones only, and of its own form and of those without one only.
    """
    parts: dict[_Key, list[LoadedStage]] = {}
    for stage in manifest.stages:
        key = (tuple(sorted(stage.label)), stage.form)
        parts.setdefault(key, []).append(LoadedStage(stage, stages[stage.name]))
    groups = {}
    for key in sorted(parts, key=lambda key: (len(key[0]), key[1] is not None)):
        needed = {tensor.name for tensor in manifest.outputs}
        for other, members in parts.items():
            if other != key:
                needed.update(tensor.name for member in members for tensor in member.spec.inputs)
        groups[key] = StageGroup(parts[key], needed)
    return groups
