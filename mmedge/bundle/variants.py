"""Variants: the same program in different precisions, what each was compared with, and how fast it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmedge.bundle.fields import Fields
from mmedge.errors import BundleFormatError

COMPUTE = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Variant:
    """One precision of the whole program, as compared with the source model on the goldens.

    Attributes:
        verified: It stayed within its limits.
        tolerance: Largest accepted relative error of an output, ||ours - source|| / ||source||; holds where `limits` is
            empty.
        errors: The largest relative error measured, per output. None where it was not finite.
        compute: The arithmetic that the engine is asked for: ``fp32``, or ``bf16`` or ``fp16`` where it may round the
            graph's own float32.
        engines: The engines that it is made for; () for any.
        limits: For a variant that rounds: the worst accepted value of each figure, see `mmedge.agreement`.
        figures: What was measured: the figures of `limits`, and the task's own metrics where labels were given.
        kept_fp32: Nodes that stay in float32 because they left the range or failed the comparison.
    """

    verified: bool
    tolerance: float
    errors: Mapping[str, float | None]
    compute: str = "fp32"
    engines: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    kept_fp32: tuple[str, ...] = ()

    @staticmethod
    def from_fields(fields: Fields) -> Variant:
        errors = fields.mapping("errors")
        for name, value in errors.items():
            if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool)):
                raise BundleFormatError(f"manifest: {fields.place('errors')}.{name} must be a number, got {value!r}")
        return Variant(
            verified=fields.boolean("verified"),
            tolerance=fields.number("tolerance"),
            errors=errors,
            compute=fields.string("compute", COMPUTE),
            engines=fields.strings("engines"),
            limits=fields.number_map("limits"),
            figures=fields.number_map("figures"),
            kept_fp32=fields.strings("kept_fp32"),
        )


@dataclass(frozen=True)
class Measurement:
    """One row of the precision search, on the machine that made the bundle.

    Attributes:
        variant, engine: What ran.
        ms: Median time of the stages that a frame runs; None where it did not run.
        kept: The bundle carries it.
        note: Why it was kept or dropped.
        figures: As in `Variant`.
    """

    variant: str
    engine: str
    ms: float | None
    kept: bool
    note: str
    figures: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def from_fields(fields: Fields) -> Measurement:
        return Measurement(
            variant=fields.string("variant"),
            engine=fields.string("engine"),
            ms=fields.number("ms") if "ms" in fields else None,
            kept=fields.boolean("kept"),
            note=fields.string("note"),
            figures=fields.number_map("figures"),
        )


@dataclass(frozen=True)
class Plan:
    """A stage that was built for one kind of device beforehand.

    Attributes:
        stage, variant: What was built.
        engine, version: By which engine, such as ``tensorrt_rtx`` and ``1.7.1.116``; another version cannot load it.
        architecture: Such as ``sm_89``.
        onnx_sha256: Hash of the ONNX file that it was built from.
        file: Path in the bundle.
    """

    stage: str
    variant: str
    engine: str
    version: str
    architecture: str
    onnx_sha256: str
    file: str

    @staticmethod
    def from_fields(fields: Fields) -> Plan:
        names = ("stage", "variant", "engine", "version", "architecture", "onnx_sha256", "file")
        return Plan(**{name: fields.string(name) for name in names})
