"""The manifest: what a bundle holds, in one checked object."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mmedge.bundle.fields import Fields
from mmedge.bundle.inputs import Input, TensorSpec, read_input
from mmedge.bundle.tasks import Task, read_task
from mmedge.errors import BundleFormatError, BundleIntegrityError

FORMAT = 1
"""The manifest format that this version writes, and the newest that it reads."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_.\-]+")


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 (hex) of one file of the bundle."""

    size: int
    sha256: str

    @staticmethod
    def from_fields(fields: Fields) -> FileEntry:
        entry = FileEntry(fields.integer("size"), fields.string("sha256"))
        if not _SHA256.fullmatch(entry.sha256):
            raise BundleFormatError(f"manifest: {fields.place('sha256')} must be 64 hex digits, got {entry.sha256!r}")
        return entry


@dataclass(frozen=True)
class Cost:
    """What one run of a stage costs, computed from its graph.

    Attributes:
        flops: Floating-point operations; a multiply-add counts as two.
        bytes: Weights, inputs and outputs of the stage, each moved once.
        at: The sizes of the named axes for which this holds.
    """

    flops: int
    bytes: int
    at: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def from_fields(fields: Fields) -> Cost:
        sizes = fields.mapping("at")
        for axis, size in sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise BundleFormatError(f"manifest: {fields.place('at')}.{axis} must be a size, got {size!r:.80}")
        return Cost(fields.integer("flops"), fields.integer("bytes"), sizes)


@dataclass(frozen=True)
class Stage:
    """All the nodes of the model that depend on one set of modalities.

    Attributes:
        name: Unique in the bundle, such as ``image+text``.
        label: The modalities that it depends on, sorted.
        files: Path of the ONNX file of each precision variant.
        inputs: Model inputs, and outputs of stages with smaller labels.
        outputs: Values that larger stages or the caller need.
        cost: FLOPs and bytes.
    """

    name: str
    label: tuple[str, ...]
    files: Mapping[str, str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    cost: Cost

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "label": list(self.label),
            "files": dict(self.files),
            "inputs": [t.to_json() for t in self.inputs],
            "outputs": [t.to_json() for t in self.outputs],
            "cost": asdict(self.cost),
        }

    @staticmethod
    def from_fields(fields: Fields) -> Stage:
        files = fields.mapping("files")
        if not files or not all(isinstance(path, str) for path in files.values()):
            raise BundleFormatError(f"manifest: {fields.place('files')} must map precision to path, got {files!r:.80}")
        return Stage(
            name=fields.string("name"),
            label=fields.strings("label"),
            files=files,
            inputs=fields.each("inputs", TensorSpec.from_fields),
            outputs=fields.each("outputs", TensorSpec.from_fields),
            cost=fields.one("cost", Cost.from_fields),
        )


@dataclass(frozen=True)
class Variant:
    """One precision of the whole program, as compared with the source model on the goldens.

    Attributes:
        verified: Every output stayed within `tolerance`.
        tolerance: Largest accepted relative error, ||ours - source|| / ||source||.
        errors: The largest relative error measured, per output. None where it was not finite.
    """

    verified: bool
    tolerance: float
    errors: Mapping[str, float | None]

    @staticmethod
    def from_fields(fields: Fields) -> Variant:
        errors = fields.mapping("errors")
        for name, value in errors.items():
            if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool)):
                raise BundleFormatError(f"manifest: {fields.place('errors')}.{name} must be a number, got {value!r}")
        return Variant(fields.boolean("verified"), fields.number("tolerance"), errors)


@dataclass(frozen=True)
class Manifest:
    """Everything about a bundle except the bytes of its files.

    Attributes:
        name, version, created, producer, license: What it is, when (UTC, ISO 8601) and by which mmedge it was made.
        source: Where the model came from: ``framework``, ``class``, ``weights_sha256``.
        task: What the outputs mean.
        inputs: Contract of each modality.
        outputs: The model's outputs, in the source model's order.
        stages: In an order in which they can run.
        variants: Each precision, with its measured parity.
        files: Every other file of the bundle.
    """

    name: str
    version: str
    created: str
    producer: str
    license: str
    source: Mapping[str, str]
    task: Task
    inputs: Mapping[str, Input]
    outputs: tuple[TensorSpec, ...]
    stages: tuple[Stage, ...]
    variants: Mapping[str, Variant]
    files: Mapping[str, FileEntry]
    format: int = FORMAT

    def __post_init__(self) -> None:
        _check(self)

    def dumps(self) -> str:
        """The manifest as JSON text; the same manifest always gives the same text."""
        value: dict[str, Any] = {
            "format": self.format,
            "name": self.name,
            "version": self.version,
            "created": self.created,
            "producer": self.producer,
            "license": self.license,
            "source": dict(self.source),
            "task": self.task.to_json(),
            "inputs": {name: contract.to_json() for name, contract in self.inputs.items()},
            "outputs": [t.to_json() for t in self.outputs],
            "stages": [stage.to_json() for stage in self.stages],
            "variants": {name: asdict(variant) for name, variant in self.variants.items()},
            "files": {name: asdict(entry) for name, entry in sorted(self.files.items())},
        }
        return json.dumps({**value, "digest": _digest(value)}, indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def loads(text: str | bytes) -> Manifest:
        """Read a manifest.

        Raises:
            BundleFormatError: It is no JSON, of an unknown format, or breaks a rule; the message names the field.
            BundleIntegrityError: It was changed after it was written.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleFormatError(f"manifest.json is not JSON ({error}): the bundle is damaged") from error
        fields = Fields(value, "")
        number = fields.integer("format", 1)
        if number > FORMAT:
            raise BundleFormatError(
                f"the bundle has format {number}; this mmedge reads formats up to {FORMAT}: "
                f"update mmedge (it was written by {value.get('producer', 'an unknown producer')})"
            )
        manifest = Manifest(
            format=number,
            name=fields.string("name"),
            version=fields.string("version"),
            created=fields.string("created"),
            producer=fields.string("producer"),
            license=fields.string("license"),
            source=_strings(fields, "source"),
            task=fields.one("task", read_task),
            inputs=fields.each_named("inputs", read_input),
            outputs=fields.each("outputs", TensorSpec.from_fields),
            stages=fields.each("stages", Stage.from_fields),
            variants=fields.each_named("variants", Variant.from_fields),
            files=fields.each_named("files", FileEntry.from_fields),
        )
        digest = fields.string("digest")
        fields.done()
        if digest != _digest({key: item for key, item in value.items() if key != "digest"}):
            raise BundleIntegrityError(
                "manifest.json was changed after it was written; copy or export the bundle again"
            )
        return manifest


def _digest(value: Mapping[str, object]) -> str:
    """SHA-256 of the manifest without its digest: guards against damage, and only a signature against malice."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def _strings(fields: Fields, name: str) -> dict[str, str]:
    value = fields.mapping(name)
    for key, item in value.items():
        if not isinstance(item, str):
            raise BundleFormatError(f"manifest: {fields.place(name)}.{key} must be a string, got {item!r:.80}")
    return value


def _check(manifest: Manifest) -> None:
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
    _check_names(manifest)
    _check_flow(manifest)
    if not manifest.variants:
        raise BundleFormatError("manifest: variants must hold at least one precision, got none")


def _check_names(manifest: Manifest) -> None:
    names = [stage.name for stage in manifest.stages]
    for name in (*names, *manifest.inputs, *manifest.variants):
        if not _NAME.fullmatch(name.replace("+", "-")):
            raise BundleFormatError(f"manifest: {name!r:.80} is no valid name; use letters, digits, '_', '-', '.', '+'")
    if len(set(names)) != len(names):
        raise BundleFormatError(f"manifest: stage names must differ, got {names}")


def _check_flow(manifest: Manifest) -> None:
    known: dict[str, set[str]] = {}
    for modality, contract in manifest.inputs.items():
        _define(known, contract.tensors, {modality}, f"modality {modality!r}")
    for stage in manifest.stages:
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
