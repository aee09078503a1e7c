"""Builds variants into the bundle that is being made, and compares them with the source model."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from mmedge.bundle import Bundle, FileEntry, Golden, Manifest, Stage, Variant, open_bundle, seal
from mmedge.comparison import Comparison, compare
from mmedge.engines import Engine, open_engine
from mmedge.loading import load_program
from mmedge.program import StagedProgram
from mmedge_export.precision.calibration import Arrays, record
from mmedge_export.precision.files import VariantWriter, load_stage
from mmedge_export.precision.half import convertible, out_of_range, round_values, to_half
from mmedge_export.precision.integer import quantizable, to_dynamic, to_static
from mmedge_export.precision.ranges import Range, capture
from mmedge_export.precision.timing import is_frame_side
from mmedge_export.precision.variants import FP32, Precision


class Workshop:
    """A sealed bundle folder with the variant fp32, to which others are added.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        goldens: What variants are compared with.
        calibration: Samples whose values give the ranges: all input tensors of the model by name.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        goldens: Sequence[Golden],
        calibration: Sequence[Arrays],
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.goldens = goldens
        self._calibration = calibration
        # Text runs once for each prompt: to round it saves little, and every frame would suffer.
        self._stages = [s for s in manifest.stages if any(is_frame_side(manifest, m) for m in s.label)]

    def nodes(self, variant: Precision) -> list[str]:
        """``STAGE:NODE`` of every node that a rewrite changes, in the order of the stages."""
        pick = convertible if variant.rewrite in (None, "half") else quantizable
        return [_key(s, n) for s in self._stages for n in pick(self._models[s.name].graph)]

    def unsafe(self, variant: Precision) -> list[str]:
        """Those of `nodes` that left the range of the type on the calibration samples."""
        if variant.rewrite != "half":
            return []
        found: list[str] = []
        for stage in self._stages:
            graph = self._models[stage.name].graph
            found.extend(f"{stage.name}:{name}" for name in out_of_range(graph, self._ranges[stage.name]))
        return found

    def build(self, variant: Precision, kept: Collection[str], *, rounding: bool = False) -> None:
        """Write the stages of a variant, and seal the bundle with it; an older build of it is replaced.

        Args:
            variant: What is built.
            kept: Those of `nodes` that stay in float32.
            rounding: Write float32 stages that round as the variant would, by which it can be judged on this machine.
        """
        writer = VariantWriter(self.folder / "stages", variant.name, self._models.values())
        paths = {}
        for stage in self._stages if variant.rewrite or rounding else ():
            prefix = f"{stage.name}:"
            names = frozenset(key.removeprefix(prefix) for key in kept if key.startswith(prefix))
            model = self._rewritten(variant, stage, names, rounding)
            if model is not None:
                stem = Path(stage.files[FP32]).name.removesuffix(".onnx").removesuffix(f".{FP32}")
                paths[stage.name] = writer.write(model, f"{stem}.{variant.name}")
        stages = tuple(
            replace(stage, files={**stage.files, variant.name: paths.get(stage.name, stage.files[FP32])})
            for stage in self.manifest.stages
        )
        compute = FP32 if rounding else variant.compute
        entry = Variant(False, 0.0, {}, compute=compute, engines=variant.engines, kept_fp32=tuple(kept))
        variants = {**self.manifest.variants, variant.name: entry}
        self._seal(stages, variants)

    def judge(self, variant: str, limits: Mapping[str, float], engine: Engine) -> Comparison:
        """Compare a variant that was built with the source model.

        Raises:
            EngineError: The engine refuses it.
        """
        entry = replace(self.manifest.variants[variant], limits=limits)
        with self.program(variant, engine) as program:
            return compare(program, self.goldens, entry)

    def settle(self, variant: str, limits: Mapping[str, float], compared: Comparison) -> None:
        """Write into the manifest what a variant is judged by, and what `judge` found."""
        entry = replace(
            self.manifest.variants[variant],
            verified=not compared.reasons,
            errors=compared.errors,
            limits=limits,
            figures=finite(compared.figures),
        )
        self._seal(self.manifest.stages, {**self.manifest.variants, variant: entry})

    @contextmanager
    def program(self, variant: str, engine: Engine) -> Iterator[StagedProgram]:
        """A variant, loaded."""
        with open_bundle(self.folder) as bundle:
            yield load_program(bundle, engine, variant)

    def open(self) -> Bundle:
        """The bundle as it is now."""
        return open_bundle(self.folder)

    def drop(self, variant: str) -> None:
        """Take a variant out, with the files that only it has."""
        stages = tuple(
            replace(s, files={name: path for name, path in s.files.items() if name != variant})
            for s in self.manifest.stages
        )
        variants = {name: entry for name, entry in self.manifest.variants.items() if name != variant}
        used = {path for stage in stages for path in stage.files.values()}
        gone = {path for stage in self.manifest.stages for path in stage.files.values()} - used
        for path in (*gone, f"stages/weights.{variant}.bin"):
            (self.folder / path).unlink(missing_ok=True)
        self._seal(stages, variants)

    def size(self, variant: str) -> int:
        """Bytes of the files that belong to a variant alone."""
        paths = {s.files[variant] for s in self.manifest.stages if s.files[variant] != s.files[FP32]}
        entries = self.manifest.files
        return sum(entries[p].size for p in (*paths, f"stages/weights.{variant}.bin") if p in entries)

    def _seal(self, stages: tuple[Stage, ...], variants: Mapping[str, Variant]) -> None:
        # A manifest lists what its stages name; sealing fills in the sizes and hashes.
        listed = {path: FileEntry(0, "0" * 64) for stage in stages for path in stage.files.values()}
        manifest = replace(self.manifest, stages=stages, variants=variants, files={**listed, **self.manifest.files})
        self.manifest = seal(self.folder, manifest)

    def _rewritten(self, variant: Precision, stage: Stage, kept: frozenset[str], rounding: bool) -> ir.Model | None:
        """The rewritten stage; None where nothing of it changes."""
        pick = convertible if variant.rewrite in (None, "half") else quantizable
        if all(node.name in kept for node in pick(self._models[stage.name].graph)):
            return None
        if variant.rewrite == "dynamic":
            return to_dynamic(self._models[stage.name], kept)
        model = self._models[stage.name].clone()
        if rounding:
            dtype = ir.DataType.BFLOAT16 if variant.compute == "bf16" else ir.DataType.FLOAT16
            round_values(model, kept, dtype)
        elif variant.rewrite == "half":
            to_half(model, kept)
        else:
            to_static(model, self._ranges[stage.name], kept, symmetric=variant.rewrite == "symmetric")
        return model

    @cached_property
    def _models(self) -> dict[str, ir.Model]:
        """The fp32 stages; those of text too, since their weights are shared."""
        return {stage.name: load_stage(self.folder, stage.files[FP32]) for stage in self.manifest.stages}

    @cached_property
    def _ranges(self) -> dict[str, dict[str, Range]]:
        with self.open() as bundle:
            fed = record(bundle, self._calibration, open_engine("onnxruntime:cpu"))
        folder = self.folder / "stages"
        return {s.name: capture(self._models[s.name], folder, fed[s.name]) for s in self._stages}


def finite(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures that a manifest can hold."""
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


def _key(stage: Stage, node: ir.Node) -> str:
    return f"{stage.name}:{node.name}"
