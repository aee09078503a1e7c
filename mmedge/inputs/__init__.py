"""What callers give (frames, prompts, tensors) -> the tensors that the manifest promises to the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmedge.bundle import ImageInput, Input, TensorSpec, TextInput
from mmedge.errors import BundleFormatError, FrameInputError, InputError, TensorInputError, TextInputError


def missing_input(modality: str, contract: Input) -> InputError:
    """The error for a modality that the model needs and never got."""
    if isinstance(contract, TextInput):
        return TextInputError("the model needs prompts and has none; call set_text([...]) before the first frame")
    if isinstance(contract, ImageInput):
        return FrameInputError("the model needs a frame; call it with one: uint8 [H, W, 3], BGR, as OpenCV gives it")
    names = "=..., ".join(tensor.name for tensor in contract.tensors)
    return TensorInputError(f"the model needs {modality!r} and never got it; call update({modality!r}, {names}=...)")


def numpy_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """The numpy dtype of a tensor.

    Raises:
        BundleFormatError: numpy has none (bfloat16): such a tensor cannot cross the border of the model.
    """
    if spec.dtype == "bfloat16":
        raise BundleFormatError(
            f"input {spec.name!r} is bfloat16, which callers cannot give; export the model with float32 inputs"
        )
    return np.dtype(spec.dtype)
