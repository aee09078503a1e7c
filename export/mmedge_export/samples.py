"""Sample inputs: what the source model and its exported form are both asked, so that their answers can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mmedge.bundle import TensorSpec
from mmedge.errors import ExportError
from mmedge.inputs.image import ImagePreprocessor
from mmedge.inputs.text import TextPreprocessor
from mmedge.tabletop import Tabletop
from mmedge_export.declare import Declaration, Image, Text

Array = npt.NDArray[np.generic]

_PROMPTS = (
    (
        "the red cube",
        "a person at the front door",
        "two cats asleep on a sofa",
        "a dog",
        "an empty parking space at night",
    ),
    ("a blue ball left of the cone", "steam", "a parcel on the step"),
    ("a cup of coffee on a wooden table",),
)
_AXIS_SIZES = (7, 11, 13, 17, 19, 23)
"""Sizes of made-up open axes: unlike each other, the numbers of prompts above, and 1."""


@dataclass(frozen=True)
class Sample:
    """One sample of real input. What is left out is filled in with defaults.

    Attributes:
        frame: uint8 [H, W, 3] BGR.
        prompts: What is asked of it.
        tensors: Arrays of modalities that are neither image nor text, by tensor name.
    """

    frame: npt.NDArray[np.uint8] | None = None
    prompts: tuple[str, ...] = ()
    tensors: Mapping[str, Array] = field(default_factory=dict)


def default_samples(declared: Mapping[str, Declaration]) -> list[Sample]:
    """Three frames of the synthetic tabletop with 5, 3 and 1 prompts of different lengths."""
    camera = Tabletop(seed=7)
    has_image = any(isinstance(d, Image) for d in declared.values())
    has_text = any(isinstance(d, Text) for d in declared.values())
    return [
        Sample(camera.frame(40 * index)[0] if has_image else None, prompts if has_text else ())
        for index, prompts in enumerate(_PROMPTS)
    ]


def sample_tensors(declared: Mapping[str, Declaration], sample: Sample, *, index: int = 0) -> dict[str, Array]:
    """The input tensors of one sample.

    Args:
        declared: The declaration of each modality; its `reference` makes the tensors where there is one.
        sample: What they are made of.
        index: Number of the sample: seeds the tensors that are made up, and chooses the sizes of their open axes.

    Raises:
        ExportError: A tensor that cannot be made up (not floating point) is missing from `sample`, or one does not
            fit its declaration.
    """
    tensors: dict[str, Array] = {}
    for name, declaration in declared.items():
        if isinstance(declaration, Image):
            if sample.frame is None:
                raise ExportError(f"sample {index} needs a frame for modality {name!r}: uint8 [H, W, 3] BGR")
            make_image = declaration.reference or _device_image(name, declaration)
            tensors.update(make_image(sample.frame))
        elif isinstance(declaration, Text):
            make_text = declaration.reference or _device_text(name, declaration)
            tensors.update(make_text(fitting_prompts(sample.prompts, declaration, index)))
    specs = [spec for declaration in declared.values() for spec in declaration.contract.tensors]
    tensors |= {s.name: np.array(sample.tensors[s.name], order="C") for s in specs if s.name in sample.tensors}
    axes: dict[str, int] = {}
    for spec in specs:
        if spec.name in tensors:
            _check(spec, tensors[spec.name], axes, index)
    for spec in specs:
        if spec.name not in tensors:
            tensors[spec.name] = _made_up(spec, axes, index)
    return tensors


def _device_image(name: str, declaration: Image) -> Callable[[npt.NDArray[np.uint8]], Mapping[str, Array]]:
    prepare = ImagePreprocessor(name, declaration.contract)
    return prepare.tensors


def _device_text(name: str, declaration: Text) -> Callable[[Sequence[str]], Mapping[str, Array]]:
    prepare = TextPreprocessor(name, declaration.contract, declaration.tokenizer_json.encode())
    return lambda prompts: prepare.encode(prompts).tensors


def fitting_prompts(prompts: Sequence[str], declaration: Text, index: int) -> list[str]:
    """As many prompts as the model takes: a fixed number is met by repeating."""
    if not prompts:
        raise ExportError(f"sample {index} needs prompts")
    count = declaration.axes[0]
    return list(prompts) if isinstance(count, str) else [prompts[i % len(prompts)] for i in range(count)]


def _made_up(spec: TensorSpec, axes: dict[str, int], index: int) -> Array:
    if not spec.dtype.startswith("float"):
        raise ExportError(f"tensor {spec.name!r} ({spec.dtype}) cannot be made up: give samples= that hold it")
    for axis in spec.shape:
        if isinstance(axis, str) and axis not in axes:
            rotated = _AXIS_SIZES[index % 3 :] + _AXIS_SIZES[: index % 3]
            axes[axis] = next((size for size in rotated if size not in axes.values()), 29 + len(axes))
    shape = [axes[axis] if isinstance(axis, str) else axis for axis in spec.shape]
    random = np.random.default_rng([1000 + index, *map(ord, spec.name)])
    return np.asarray(random.standard_normal(shape)).astype(spec.dtype)


def _check(spec: TensorSpec, array: Array, axes: dict[str, int], index: int) -> None:
    """An array must be what its declaration says, and agree with the others on the size of named axes."""
    fits = array.ndim == len(spec.shape) and all(
        axes.setdefault(want, got) == got if isinstance(want, str) else want == got
        for want, got in zip(spec.shape, array.shape, strict=True)
    )
    if array.dtype.name != spec.dtype or not fits:
        known = {axis: axes[axis] for axis in spec.shape if isinstance(axis, str) and axis in axes}
        raise ExportError(
            f"sample {index}: tensor {spec.name!r} must be {spec.dtype} {list(spec.shape)}"
            f"{f' with {known}' if known else ''}, got {array.dtype.name} {list(array.shape)}"
        )
