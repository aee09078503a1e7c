"""Sample inputs: what the source model and its exported form are both asked, so that their answers can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mmedge.bundle import Input, TensorInput, TensorSpec
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
_AXIS_SIZES = (7, 3, 5)


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
        else:
            tensors.update(_given_or_made(declaration.contract, sample, index))
    _check({name: declaration.contract for name, declaration in declared.items()}, tensors, index)
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


def _given_or_made(contract: TensorInput, sample: Sample, index: int) -> dict[str, Array]:
    random = np.random.default_rng(1000 + index)
    tensors: dict[str, Array] = {}
    for spec in contract.tensors:
        if spec.name in sample.tensors:
            tensors[spec.name] = np.array(sample.tensors[spec.name], order="C")
        elif spec.dtype.startswith("float"):
            shape = [_AXIS_SIZES[index % len(_AXIS_SIZES)] if isinstance(a, str) else a for a in spec.shape]
            tensors[spec.name] = random.standard_normal(shape).astype(spec.dtype)
        else:
            raise ExportError(f"tensor {spec.name!r} ({spec.dtype}) cannot be made up: give samples= that hold it")
    return tensors


def _check(inputs: Mapping[str, Input], tensors: Mapping[str, Array], index: int) -> None:
    axes: dict[str, int] = {}
    for contract in inputs.values():
        for spec in contract.tensors:
            array = tensors.get(spec.name)
            if array is None or array.dtype.name != spec.dtype or not _fits(spec, array, axes):
                came = "nothing" if array is None else f"{array.dtype.name} {list(array.shape)}"
                raise ExportError(
                    f"sample {index}: tensor {spec.name!r} must be {spec.dtype} {list(spec.shape)}, got {came}"
                )


def _fits(spec: TensorSpec, array: Array, axes: dict[str, int]) -> bool:
    if array.ndim != len(spec.shape):
        return False
    sizes = zip(spec.shape, array.shape, strict=True)
    return all(axes.setdefault(want, got) == got if isinstance(want, str) else want == got for want, got in sizes)
