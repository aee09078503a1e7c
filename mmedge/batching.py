"""Several frames at once: when a bundle allows it, and how their tensors are joined and divided again.

A bundle takes several frames where the first axis of its pixel tensor has a name, such as ``frames``, and every value
that leaves the stages that depend on frames alone has that axis as well, anywhere, or a multiple of it (``12*frames``:
12 rows of the first frame, then 12 of the second). Those stages then run once for all frames, and everything else for
each frame with its own slice, in which the axis has size 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmedge.bundle import ImageInput, Manifest, TensorSpec
from mmedge.engines import Array, Value
from mmedge.errors import EngineError, TensorInputError
from mmedge.stages import on_host

MOST_FRAMES = 8
"""Most frames that run at once; longer lists are run in parts, so that memory stays bounded."""


def batch_modality(manifest: Manifest) -> str | None:
    """The modality of frames of a bundle that takes several at once; None for one that takes them one by one."""
    for modality, contract in manifest.inputs.items():
        if isinstance(contract, ImageInput):
            axis = contract.tensor.shape[0] if contract.tensor.shape else None
            values = crossing(manifest, modality)
            if isinstance(axis, str) and _alone(manifest, modality, axis) and values:
                return modality if all(frames_axis(v, axis) is not None for v in values.values()) else None
    return None


def crossing(manifest: Manifest, modality: str) -> dict[str, TensorSpec]:
    """What the stages that depend on `modality` alone, in every form, give to other stages and to the caller."""
    own = [stage for stage in manifest.stages if stage.label == (modality,) and stage.form is None]
    wanted = {tensor.name for tensor in manifest.outputs}
    wanted.update(t.name for stage in manifest.stages if stage not in own for t in stage.inputs)
    return {tensor.name: tensor for stage in own for tensor in stage.outputs if tensor.name in wanted}


def join(batch: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The tensors of several frames, one after the other along the first axis.

    Raises:
        TensorInputError: They differ in shape.
    """
    for name, first in batch[0].items():
        shapes = [tensors[name].shape for tensors in batch]
        if any(shape != first.shape for shape in shapes):
            raise TensorInputError(f"{name!r} of frames that run at once must have one shape, got {shapes}")
    return {name: np.concatenate([tensors[name] for tensors in batch]) for name in batch[0]}


def frames_axis(spec: TensorSpec, axis: str) -> int | None:
    """Which axis of a value holds one frame after the other; None where it is not exactly one."""
    found = [place for place, size in enumerate(spec.shape) if size == axis or _times(str(size)) == axis]
    return found[0] if len(found) == 1 else None


def divide(
    values: Mapping[str, Value], specs: Mapping[str, TensorSpec], axis: str, count: int
) -> list[dict[str, Array]]:
    """The part of each of `count` frames, as copies: a result that is kept does not hold the others.

    Args:
        values: What the stages gave.
        specs: Of each of them.
        axis: Name of the axis of frames.

    Raises:
        EngineError: A value cannot be divided, so the stage is not what the manifest says.
    """
    parts: list[dict[str, Array]] = [{} for _ in range(count)]
    for name, value in values.items():
        array, place = on_host(value, specs[name]), frames_axis(specs[name], axis)
        if place is None or place >= array.ndim or array.shape[place] % count:
            raise EngineError(
                f"{name!r} of {count} frames must be {list(specs[name].shape)}, got {list(array.shape)}; export the "
                "bundle again"
            )
        for part, rows in zip(parts, np.split(array, count, axis=place), strict=True):
            part[name] = rows.copy()
    return parts


def _alone(manifest: Manifest, modality: str, axis: str) -> bool:
    """Whether the axis counts frames and nothing else, and does not decide which form runs."""
    shapes = [t.shape for contract in manifest.inputs.values() for t in contract.tensors]
    return sum(shape.count(axis) for shape in shapes) == 1 and manifest.deciding != modality


def _times(size: str) -> str | None:
    factor, _, name = size.partition("*")
    return name if factor.isdigit() else None
