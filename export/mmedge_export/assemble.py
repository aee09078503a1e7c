"""Put a bundle together in a folder: stages, weights, tokenizer, goldens and a manifest whose parity is still open."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import onnx_ir as ir

import mmedge
from mmedge.bundle import (
    Cost,
    Golden,
    Input,
    Manifest,
    Stage,
    Task,
    TensorSpec,
    Variant,
    seal,
    write_goldens,
)
from mmedge.bundle.writer import file_entries
from mmedge.errors import GraphError
from mmedge_export.graph.axes import prompt_lengths
from mmedge_export.graph.compiler import Compilation, compile_prompts
from mmedge_export.graph.emit import StageWriter
from mmedge_export.graph.partition import StagePlan, partition
from mmedge_export.graph.prepare import infer
from mmedge_export.graph.sinking import sink_broadcasts
from mmedge_export.graph.sizes import concrete_sizes
from mmedge_export.options import Options

PRECISION = "fp32"

_log = logging.getLogger("mmedge")


@dataclass(frozen=True)
class Subject:
    """A model that is ready to be cut.

    Attributes:
        description: Framework, class and weights hash of the source.
        graph: The prepared graph.
        inputs: Contract of each modality.
        tokenizer: Content of tokenizer.json, or None.
        task: What the outputs mean.
        goldens: Samples with the source's outputs; costs are counted for the first.
    """

    description: Mapping[str, str]
    graph: ir.Model
    inputs: Mapping[str, Input]
    tokenizer: str | None
    task: Task
    goldens: list[Golden]


def assemble(subject: Subject, folder: Path, name: str, options: Options) -> Manifest:
    """Write everything of the bundle but the model card into `folder`, and seal it with an unverified manifest.

    Raises:
        GraphError: The graph cannot be cut.
        OSError: The disk is full.
    """
    outputs = _specs(subject.graph.graph.outputs)
    plans, compiled = _plans(subject, options)
    stages_folder = folder / "stages"
    stages_folder.mkdir()
    writer = StageWriter(stages_folder)
    files = {plan.name: _file_stem(index, plan) for index, plan in enumerate(plans)}
    for plan in plans:
        writer.write(subject.graph, plan, files[plan.name])
    if subject.tokenizer is not None:
        (folder / "tokenizer.json").write_text(subject.tokenizer, encoding="utf-8")
    (folder / "goldens.npz").write_bytes(write_goldens(subject.goldens))
    axes = _axes(subject)
    manifest = Manifest(
        name=options.name or name,
        version=options.version,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        producer=f"mmedge {mmedge.__version__}",
        license=options.license,
        source=subject.description,
        task=subject.task,
        inputs=subject.inputs,
        outputs=outputs,
        stages=tuple(_stage(plan, files[plan.name], axes) for plan in plans),
        forms=compiled.forms,
        sites=compiled.sites,
        variants={PRECISION: Variant(verified=False, tolerance=options.tolerance, errors={})},
        files=file_entries(folder),
    )
    return seal(folder, manifest)


def _plans(subject: Subject, options: Options) -> tuple[list[StagePlan], Compilation]:
    """Sink what is only repeated, compile the prompts, and cut."""
    model, inputs = subject.graph, subject.inputs
    specs = [(spec, name) for name, contract in inputs.items() for spec in contract.tensors]
    limits = prompt_lengths(inputs)
    names = [str(value.name) for value in model.graph.outputs]
    _sink(model, limits)
    compiled = compile_prompts(model, inputs, rewrite=options.compile_prompts)
    infer(model, limits)
    sizes = concrete_sizes(model, subject.goldens[0].inputs)
    modalities = {spec.name: name for spec, name in specs}
    plans = partition(model.graph, modalities, sizes, merge_below=options.merge_below, forms=compiled.outputs)
    renamed = {
        value: name
        for values in compiled.outputs.values()
        for value, name in zip(values, names, strict=True)
        if value.name != name
    }
    for plan in plans:
        plan.renamed.update(renamed)
    return plans, compiled


def _sink(model: ir.Model, limits: Mapping[str, int]) -> None:
    """Move repeats down, and say so."""
    sunk = [repeat for repeat in sink_broadcasts(model) if repeat.crossed]
    for repeat in sunk:
        ends = ", ".join(f"{stop.op_type} {stop.node} ({stop.reason})" for stop in repeat.stops[:3])
        what = f"{repeat.node} repeats a tensor {repeat.count} times"
        _log.info("%s: it was moved past %d operators, down to %s", what, repeat.crossed, ends)
    if sunk:
        infer(model, limits)


def _file_stem(index: int, plan: StagePlan) -> str:
    """The name of a stage, unless many modalities make it longer than file systems like."""
    return f"{plan.name if len(plan.name) <= 80 else index}.{PRECISION}"


def _stage(plan: StagePlan, file: str, axes: Mapping[str, int]) -> Stage:
    return Stage(
        name=plan.name,
        label=tuple(sorted(plan.label)),
        files={PRECISION: f"stages/{file}.onnx"},
        inputs=_specs(plan.inputs),
        outputs=tuple(
            replace(spec, name=name) for spec, name in zip(_specs(plan.outputs), plan.output_names, strict=True)
        ),
        cost=Cost(plan.flops, plan.bytes, dict(axes)),
        form=plan.form,
    )


def _specs(values: Iterable[ir.Value]) -> tuple[TensorSpec, ...]:
    return tuple(_spec(value) for value in values)


def _spec(value: ir.Value) -> TensorSpec:
    if value.dtype is None or value.name is None:
        raise GraphError(
            f"the dtype of {value.name!r} cannot be inferred: an operator without shape inference makes it"
        )
    dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(value.dtype.name, value.dtype.name.lower())
    shape = value.shape if value.shape is not None else ()
    named = tuple(d if isinstance(d, int) else (d.value or f"{value.name}.{i}") for i, d in enumerate(shape))
    return TensorSpec(value.name, dtype, named)


def _axes(subject: Subject) -> dict[str, int]:
    """The sizes of the named axes in the first sample, for which costs are counted."""
    arrays = subject.goldens[0].inputs
    specs = [spec for contract in subject.inputs.values() for spec in contract.tensors]
    return {
        axis: size
        for spec in specs
        for axis, size in zip(spec.shape, arrays[spec.name].shape, strict=True)
        if isinstance(axis, str)
    }
