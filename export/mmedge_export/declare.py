"""How a user declares what a model takes: one object per modality."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from mmedge.bundle import ImageInput, TensorInput, TensorSpec, TextInput
from mmedge.errors import ExportError

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Image:
    """A camera frame.

    Args:
        size: (height, width) that the model sees.
        name: The pixel tensor, float32 [1, 3, H, W] (nchw) or [1, H, W, 3] (nhwc), RGB.
        resize, shortest_edge, crop, interpolation, mean, std, pad_value, layout: As in
            `mmedge.bundle.ImageInput`.
        reference: The source's own way from a frame (uint8 [H, W, 3] BGR) to the pixel tensor. The bundle's goldens are
            made by it, so that ours is checked against it; None: by ours.
    """

    size: tuple[int, int]
    name: str = "pixel_values"
    resize: str = "shortest-edge"
    shortest_edge: int | None = None
    crop: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    pad_value: int = 0
    layout: str = "nchw"
    reference: Callable[[npt.NDArray[np.uint8]], Mapping[str, Array]] | None = None

    @property
    def contract(self) -> ImageInput:
        height, width = self.size
        shape = (1, 3, height, width) if self.layout == "nchw" else (1, height, width, 3)
        return ImageInput(
            tensor=TensorSpec(self.name, "float32", shape),
            size=self.size,
            resize=self.resize,
            shortest_edge=self.shortest_edge,
            crop=self.crop,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            pad_value=self.pad_value,
            layout=self.layout,
        )


@dataclass(frozen=True)
class Text:
    """Prompts.

    Args:
        tokenizer: A ``tokenizer.json`` (Hugging Face tokenizers format), or its content.
        max_length: Longest prompt in tokens, special tokens included.
        ids, mask: Names of the token tensors [n, l]; mask None where the model takes none.
        pad_id: Token id that fills shorter prompts.
        template: Text around each prompt; ``{}`` is the prompt.
        dtype: Of `ids` and `mask`.
        axes: Names or fixed sizes of the two axes.
        vocab_size: Rows of the model's embedding table; None takes the tokenizer's own size.
        reference: The source's own way from prompts to the token tensors, as in `Image`.
    """

    tokenizer: Path | str
    max_length: int
    ids: str = "input_ids"
    mask: str | None = "attention_mask"
    pad_id: int = 0
    template: str = "{}"
    dtype: str = "int64"
    axes: tuple[int | str, int | str] = ("n", "l")
    vocab_size: int | None = None
    reference: Callable[[Sequence[str]], Mapping[str, Array]] | None = None

    @property
    def tokenizer_json(self) -> str:
        """The tokenizer without the padding and truncation of its training: the contract sets its own.

        Raises:
            ExportError: There is no such file, or it is no tokenizer.
        """
        try:
            is_path = isinstance(self.tokenizer, Path) or not self.tokenizer.lstrip().startswith("{")
            text = Path(self.tokenizer).read_text(encoding="utf-8") if is_path else str(self.tokenizer)
            tokenizer = Tokenizer.from_str(text)
        except OSError as error:
            raise ExportError(f"the tokenizer cannot be read: {error}; expected a tokenizer.json") from error
        except Exception as error:
            # tokenizers raises bare Exception for a file that it does not understand.
            raise ExportError(f"no valid tokenizer.json: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))

    @property
    def contract(self) -> TextInput:
        if self.template.count("{}") != 1:
            raise ExportError(f"template must hold {{}} once, got {self.template!r}")
        largest = max(Tokenizer.from_str(self.tokenizer_json).get_vocab().values(), default=0)
        size = self.vocab_size or largest + 1
        if largest >= size:
            raise ExportError(
                f"wrong tokenizer: it gives token ids up to {largest}, the model's embedding table has {size} rows; "
                "use the tokenizer that the model was trained with"
            )
        return TextInput(
            ids=TensorSpec(self.ids, self.dtype, self.axes),
            mask=None if self.mask is None else TensorSpec(self.mask, self.dtype, self.axes),
            max_length=self.max_length,
            pad_id=self.pad_id,
            vocab_size=size,
            template=self.template,
        )


@dataclass(frozen=True)
class Tensor:
    """Any other modality: tensors that the caller makes.

    Args:
        shape: Sizes and names of axes of a single tensor called `name`.
        name: The tensor.
        dtype: Its dtype.
        more: Further tensors of the same modality, as (name, dtype, shape).
    """

    shape: tuple[int | str, ...]
    name: str
    dtype: str = "float32"
    more: tuple[tuple[str, str, tuple[int | str, ...]], ...] = ()

    @property
    def contract(self) -> TensorInput:
        tensors = ((self.name, self.dtype, self.shape), *self.more)
        return TensorInput(tuple(TensorSpec(*tensor) for tensor in tensors))


Declaration = Image | Text | Tensor
