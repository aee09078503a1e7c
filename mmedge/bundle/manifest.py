"""The manifest: what a bundle holds, in one checked object."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mmedge.bundle.checks import check
from mmedge.bundle.fields import Fields, without_none
from mmedge.bundle.forms import Form, Site
from mmedge.bundle.inputs import Input, TensorSpec, read_input
from mmedge.bundle.tasks import Task, read_task
from mmedge.bundle.variants import Measurement, Plan, Variant
from mmedge.errors import BundleFormatError, BundleIntegrityError

FORMAT = 2
"""The manifest format that this version writes, and the newest that it reads."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        form: The form that it belongs to; None for all of them.
    """

    name: str
    label: tuple[str, ...]
    files: Mapping[str, str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    cost: Cost
    form: str | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "label": list(self.label),
            "files": dict(self.files),
            "inputs": [t.to_json() for t in self.inputs],
            "outputs": [t.to_json() for t in self.outputs],
            "cost": asdict(self.cost),
            **({} if self.form is None else {"form": self.form}),
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
            form=fields.string("form") if "form" in fields else None,
        )


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
        forms: Ways of running a frame, of which the cheapest for the sizes at hand runs; {} where there is one.
        sites: Every cross-attention, and what became of it.
        measured: What the precision search found, on the machine `measured_on`.
        plans: Stages built for one kind of device beforehand.
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
    forms: Mapping[str, Form] = field(default_factory=dict)
    sites: tuple[Site, ...] = ()
    measured: tuple[Measurement, ...] = ()
    measured_on: str = ""
    plans: tuple[Plan, ...] = ()
    format: int = FORMAT

    def __post_init__(self) -> None:
        check(self)

    @property
    def deciding(self) -> str | None:
        """The modality whose sizes decide which form runs; None where there is one form, or none that could."""
        axes = {axis for form in self.forms.values() for term in form.cost for axis in term.axes}
        if self.forms:
            for name, contract in self.inputs.items():
                if axes <= {axis for tensor in contract.tensors for axis in tensor.shape}:
                    return name
        return None

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
            "forms": {name: form.to_json() for name, form in self.forms.items()},
            "sites": [asdict(site) for site in self.sites],
            "measured": [without_none(asdict(row)) for row in self.measured],
            "measured_on": self.measured_on,
            "plans": [asdict(plan) for plan in self.plans],
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
        if number < 2:
            fields = Fields(_from_format_1(value), "")
            fields.integer("format")
        manifest = Manifest(
            format=FORMAT,
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
            forms=fields.each_named("forms", Form.from_fields),
            sites=fields.each("sites", Site.from_fields),
            measured=fields.each("measured", Measurement.from_fields),
            measured_on=fields.string("measured_on"),
            plans=fields.each("plans", Plan.from_fields),
        )
        digest = fields.string("digest")
        fields.done()
        if digest != _digest({key: item for key, item in value.items() if key != "digest"}):
            raise BundleIntegrityError(
                "manifest.json was changed after it was written; copy or export the bundle again"
            )
        return manifest


def _from_format_1(value: Mapping[str, Any]) -> dict[str, Any]:
    """What format 2 says of a bundle of format 1: one form, nothing searched, nothing built beforehand."""
    plain: dict[str, Any] = {"compute": "fp32", "engines": [], "limits": {}, "figures": {}, "kept_fp32": []}
    variants = value.get("variants")
    if isinstance(variants, dict):
        variants = {k: {**v, **plain} if isinstance(v, dict) else v for k, v in variants.items()}
    new = {"forms": {}, "sites": [], "measured": [], "measured_on": "", "plans": []}
    return {**value, "variants": variants, **new}


def _digest(value: Mapping[str, object]) -> str:
    """SHA-256 of the manifest without its digest: guards against damage, and only a signature against malice."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def _strings(fields: Fields, name: str) -> dict[str, str]:
    value = fields.mapping(name)
    for key, item in value.items():
        if not isinstance(item, str):
            raise BundleFormatError(f"manifest: {fields.place(name)}.{key} must be a string, got {item!r:.80}")
    return value
