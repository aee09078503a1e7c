"""An estimate of frame time and memory on a chip that is not here, from operations, bytes and the chip's ceilings.

A stage takes at least as long as its operations need at the chip's peak, and as its bytes need at the chip's bandwidth;
the longer of the two, divided by `EFFICIENCY`, and what a call costs are the estimate (the roofline model: Williams,
Waterman and Patterson, 2009). It says which stage dominates and which frame rates are out of reach. It is not stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from mmedge.bundle import Bundle, ImageInput, Manifest, Stage, TextInput, open_bundle
from mmedge.targets import PRECISIONS, Chip, Target
from mmedge_export.graph.partition import CALL_SECONDS
from mmedge_export.graph.sizes import Sizes, concrete_sizes, value_bytes
from mmedge_export.number_formats import graph_precisions, load_typed

EFFICIENCY = 0.4
"""Assumption: the share of a chip's ceilings that a stage reaches. Not measured on any of the chips."""

KIND = "estimate, not measured"


@dataclass(frozen=True)
class StageEstimate:
    """What a stage is expected to need.

    Attributes:
        stage: Its name.
        form: The form that it belongs to; None for all of them.
        each_frame: It runs for each frame; others run when what they depend on changes.
        seconds: Of one run; None where the chip's peak for the precision, or what the stage does, is not known.
        bound: ``compute`` or ``memory``: what takes the time.
        weights_bytes: Of its weights.
        activation_bytes: Most bytes of values that are needed at one time; None where a shape could not be inferred.
    """

    stage: str
    form: str | None
    each_frame: bool
    seconds: float | None
    bound: str | None
    weights_bytes: int
    activation_bytes: int | None


@dataclass(frozen=True)
class Estimate:
    """What a variant of a bundle is expected to need on a chip, at the sizes of the bundle's first sample.

    Attributes:
        chip: Name of the chip.
        variant, precision: The variant, and the precision whose peak was taken for all of its operations.
        stages: One entry for each stage.
        frame_seconds: Form -> time of the stages that a frame runs; ``""`` in a bundle without forms. None: unknown.
        memory_bytes: Weights of all stages and the largest activations that are known: at least that much is needed.
            What the engine needs for itself is not known and not in it.
        chip_memory_bytes: What the chip has, shared with the CPU on Jetson.
    """

    chip: str
    variant: str
    precision: str
    stages: tuple[StageEstimate, ...]
    frame_seconds: Mapping[str, float | None]
    memory_bytes: int
    chip_memory_bytes: int

    def to_json(self) -> dict[str, object]:
        return {"kind": KIND, "efficiency_assumed": EFFICIENCY, **asdict(self)}


def estimate(
    bundle: Bundle | Path | str, target: Target, variants: Sequence[str] | None = None
) -> tuple[Estimate, ...]:
    """Estimates for each chip of `target` and each of `variants`; () for a target without a known chip.

    Args:
        bundle: An open bundle, or the path of one, zip or folder.
        target: See `mmedge.targets.target`.
        variants: Names of variants; None takes all.

    Raises:
        BundleError: The bundle cannot be read.
    """
    if not target.chips:
        return ()
    with ExitStack() as stack:
        opened = bundle if isinstance(bundle, Bundle) else stack.enter_context(open_bundle(bundle))
        names = tuple(opened.manifest.variants) if variants is None else tuple(variants)
        loads = {name: [_load(opened, stage, name) for stage in opened.manifest.stages] for name in names}
        return tuple(
            _on_chip(opened.manifest, name, _precision(opened.manifest, name, loads[name]), loads[name], chip)
            for chip in target.chips
            for name in names
        )


@dataclass(frozen=True)
class _Load:
    """What a stage does to any chip. traffic: bytes of weights, inputs and outputs, each moved once."""

    stage: Stage
    precisions: frozenset[str]
    weights: int
    traffic: int
    activations: int | None


def _load(bundle: Bundle, stage: Stage, variant: str) -> _Load:
    model = load_typed(bundle.stages_folder() / Path(stage.files[variant]).name)
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    sizes = _sizes(model, stage)
    crossing = [
        value_bytes(v, sizes) if _name(v) in sizes else None for v in (*model.graph.inputs, *model.graph.outputs)
    ]
    known = [size for size in crossing if size is not None]
    # The manifest counts the bytes of the exported float32 graph; a variant's own weights may be smaller.
    traffic = weights + sum(known) if len(known) == len(crossing) else max(stage.cost.bytes, weights)
    return _Load(stage, graph_precisions(model), weights, traffic, _most_alive(model, sizes))


def _sizes(model: ir.Model, stage: Stage) -> Sizes:
    """The shape of every value at the sizes of the first sample; {} where an input's is not known."""
    shapes = {
        spec.name: tuple(stage.cost.at.get(d, -1) if isinstance(d, str) else d for d in spec.shape)
        for spec in stage.inputs
    }
    if any(size < 0 for shape in shapes.values() for size in shape):
        return {}
    # Only the shapes are read; one number that is broadcast takes no memory.
    sample = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    # What is folded there, such as the number of frames, is a node here, of one size whatever the sample.
    fixed = {_name(v): v.shape for node in model.graph for v in node.outputs if v.shape is not None}
    folded = {name: shape.numpy() for name, shape in fixed.items() if shape.is_static()}
    return {**folded, **concrete_sizes(model, sample)}


def _most_alive(model: ir.Model, sizes: Sizes) -> int | None:
    """The most bytes of values that exist at one time when the nodes run in the order of the graph."""
    nodes = list(model.graph)
    values = [*(v for v in model.graph.inputs if not v.is_initializer()), *(o for node in nodes for o in node.outputs)]
    if any(_name(value) not in sizes for value in values if value.name):
        return None
    last = {_name(value): index for index, node in enumerate(nodes) for value in _read(node)}
    last |= {_name(value): len(nodes) for value in model.graph.outputs}
    alive = {_name(v): value_bytes(v, sizes) for v in model.graph.inputs if not v.is_initializer()}
    most = sum(alive.values())
    for index, node in enumerate(nodes):
        alive |= {_name(output): value_bytes(output, sizes) for output in node.outputs}
        most = max(most, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > index}
    return most


def _read(node: ir.Node) -> Iterable[ir.Value]:
    """What a node reads, and what the graphs inside it read from outside."""
    for inner in (
        node,
        *(n for a in node.attributes.values() for g in _graphs(a) for n in ir.traversal.RecursiveGraphIterator(g)),
    ):
        yield from (value for value in inner.inputs if value is not None)


def _graphs(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else ()


def _name(value: ir.Value) -> str:
    return str(value.name)


def _precision(manifest: Manifest, variant: str, loads: Sequence[_Load]) -> str:
    """The narrowest precision of the variant: that of its products, which are nearly all of its operations."""
    found = {manifest.variants[variant].compute, *(p for load in loads for p in load.precisions)}
    return max(found, key=PRECISIONS.index)


def _on_chip(manifest: Manifest, variant: str, precision: str, loads: Sequence[_Load], chip: Chip) -> Estimate:
    fast = _fast_modalities(manifest)
    stages = tuple(_stage_on_chip(load, precision, chip, bool(fast & set(load.stage.label))) for load in loads)
    memory = sum(s.weights_bytes for s in stages) + max((s.activation_bytes or 0 for s in stages), default=0)
    frames = {form or "": _frame(stages, form) for form in (manifest.forms or (None,))}
    return Estimate(chip.name, variant, precision, stages, frames, memory, chip.memory_bytes)


def _fast_modalities(manifest: Manifest) -> set[str]:
    """What changes with each frame: pictures; without any, all that is not text."""
    kinds = manifest.inputs.items()
    images = {name for name, contract in kinds if isinstance(contract, ImageInput)}
    return images or {name for name, contract in kinds if not isinstance(contract, TextInput)} or set(manifest.inputs)


def _stage_on_chip(load: _Load, precision: str, chip: Chip, each_frame: bool) -> StageEstimate:
    peak = chip.flops.get(precision)
    seconds = bound = None
    # A stage whose shapes are all unknown counts as nothing: that is no estimate of it.
    if peak is not None and (load.stage.cost.flops or load.traffic):
        compute, memory = load.stage.cost.flops / peak, load.traffic / chip.bandwidth_bytes_s
        seconds = max(compute, memory) / EFFICIENCY + CALL_SECONDS
        bound = "compute" if compute >= memory else "memory"
    stage = load.stage
    return StageEstimate(stage.name, stage.form, each_frame, seconds, bound, load.weights, load.activations)


def _frame(stages: Sequence[StageEstimate], form: str | None) -> float | None:
    times = [stage.seconds for stage in stages if stage.each_frame and stage.form in (None, form)]
    known = [seconds for seconds in times if seconds is not None]
    return math.fsum(known) if len(known) == len(times) else None
