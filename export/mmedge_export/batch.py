"""Let a bundle that is being made take several frames at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from mmedge.bundle import ImageInput, Input, Manifest, Stage, TensorSpec, seal
from mmedge.errors import GraphError
from mmedge_export.graph.frames import open_frames
from mmedge_export.precision.files import load_stage
from mmedge_export.precision.variants import FP32


def open_batch(folder: Path, manifest: Manifest) -> Manifest:
    """Open the axis of frames in the stage that depends on frames alone, and in the manifest.

    Args:
        folder: A sealed bundle folder with the variant fp32 alone; sealed again.
        manifest: Its manifest.

    Raises:
        GraphError: The bundle takes no frames, no stage depends on them alone, or a node of it mixes them.
    """
    image, contract = _image(manifest)
    stage = next((s for s in manifest.stages if s.label == (image,) and s.form is None), None)
    if stage is None:
        raise GraphError("several frames cannot run at once: no stage depends on frames alone; export without batch")
    axis = _free_name(manifest)
    model = load_stage(folder, stage.files[FP32])
    open_frames(model, contract.tensor.name, axis)
    ir.save(model, folder / stage.files[FP32])
    shapes = {str(v.name): _sizes(v) for v in (*model.graph.inputs, *model.graph.outputs)}
    opened = _opened(stage, shapes, axis)
    return seal(
        folder,
        replace(
            manifest,
            inputs={**manifest.inputs, image: replace(contract, tensor=_with(contract.tensor, shapes))},
            stages=tuple(opened if s is stage else s for s in manifest.stages),
        ),
    )


def one_frame(inputs: Mapping[str, Input]) -> tuple[dict[str, Input], bool]:
    """The inputs of a bundle for one frame, and whether they were for several."""
    closed: dict[str, Input] = {}
    for name, contract in inputs.items():
        closed[name] = contract
        if isinstance(contract, ImageInput):
            tensor = replace(contract.tensor, shape=(1, *contract.tensor.shape[1:]))
            closed[name] = replace(contract, tensor=tensor)
    return closed, closed != dict(inputs)


def _image(manifest: Manifest) -> tuple[str, ImageInput]:
    for name, contract in manifest.inputs.items():
        if isinstance(contract, ImageInput):
            return name, contract
    raise GraphError("several frames cannot run at once: the model takes none")


def _free_name(manifest: Manifest) -> str:
    """``frames``, unless an axis is called so that counts something else."""
    taken = {str(size) for contract in manifest.inputs.values() for t in contract.tensors for size in t.shape}
    name = "frames"
    while name in taken:
        name += "_"
    return name


def _opened(stage: Stage, shapes: Mapping[str, tuple[int | str, ...]], axis: str) -> Stage:
    return replace(
        stage,
        inputs=tuple(_with(spec, shapes) for spec in stage.inputs),
        outputs=tuple(_with(spec, shapes) for spec in stage.outputs),
        cost=replace(stage.cost, at={**stage.cost.at, axis: 1}),
    )


def _with(spec: TensorSpec, shapes: Mapping[str, tuple[int | str, ...]]) -> TensorSpec:
    return replace(spec, shape=shapes[spec.name])


def _sizes(value: ir.Value) -> tuple[int | str, ...]:
    return tuple(size if isinstance(size, int) else str(size.value) for size in value.shape or ())
