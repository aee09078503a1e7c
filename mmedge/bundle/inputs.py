"""What a model takes: the tensors of each modality and the contract by which they are made.

The contract travels inside the bundle, so that the device prepares frames and words exactly as the source model's own
processor did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from mmedge.bundle.fields import Fields, without_none
from mmedge.errors import BundleFormatError

DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of a tensor. A shape entry is a size, or the name of an axis whose size may change."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def to_json(self) -> dict[str, object]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @staticmethod
    def from_fields(fields: Fields) -> TensorSpec:
        name, dtype = fields.string("name"), fields.string("dtype", DTYPES)
        shape = fields.all_of("shape", (int, str), "a size or an axis name")
        for size in shape:
            if (isinstance(size, int) and size < 0) or size == "":
                raise BundleFormatError(f"manifest: {fields.place('shape')} holds {size!r}; sizes are 0 or more")
        return TensorSpec(name, dtype, shape)


@dataclass(frozen=True)
class ImageInput:
    """How a camera frame becomes the pixel tensor.

    Attributes:
        tensor: The pixel tensor, [1, 3, H, W] (nchw) or [1, H, W, 3] (nhwc), channels in RGB order. The first axis has
            a name where several frames may run at once.
        size: (height, width) of the picture that the model sees.
        resize: ``shortest-edge``, ``stretch`` or ``letterbox``.
        shortest_edge: Length of the shorter side after a ``shortest-edge`` resize; None means min(size).
        crop: ``center`` or ``none``.
        interpolation: ``bilinear`` or ``bicubic``, antialiased, as Pillow does it.
        mean, std: Per RGB channel, applied to pixels scaled to 0..1.
        pad_value: 0..255, what a ``letterbox`` fills with.
        layout: ``nchw`` or ``nhwc``.
    """

    tensor: TensorSpec
    size: tuple[int, int]
    resize: str = "shortest-edge"
    shortest_edge: int | None = None
    crop: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    pad_value: int = 0
    layout: str = "nchw"

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        return (self.tensor,)

    def to_json(self) -> dict[str, object]:
        return {"kind": "image", **without_none(asdict(self)), "tensor": self.tensor.to_json()}

    @staticmethod
    def from_fields(fields: Fields) -> ImageInput:
        height, width = (int(v) for v in fields.numbers("size", 2))
        image = ImageInput(
            tensor=fields.one("tensor", TensorSpec.from_fields),
            size=(height, width),
            resize=fields.string("resize", ("shortest-edge", "stretch", "letterbox")),
            shortest_edge=fields.integer("shortest_edge", 1) if "shortest_edge" in fields else None,
            crop=fields.string("crop", ("center", "none")),
            interpolation=fields.string("interpolation", ("bilinear", "bicubic")),
            mean=fields.numbers("mean", 3),
            std=fields.numbers("std", 3),
            pad_value=fields.integer("pad_value"),
            layout=fields.string("layout", ("nchw", "nhwc")),
        )
        if min(image.size) < 1 or image.pad_value > 255 or min(image.std) <= 0:
            raise BundleFormatError(
                f"manifest: {fields.place('')} needs size >= 1, pad_value <= 255 and std > 0; "
                f"got {image.size}, {image.pad_value}, {image.std}"
            )
        return image


@dataclass(frozen=True)
class TextInput:
    """How prompts become token tensors.

    Attributes:
        ids: Token ids, int64 or int32, [n, l]: n prompts of l tokens. An integer axis is padded up to.
        mask: 1 for a token, 0 for padding; same shape as `ids`. None where the model takes none.
        max_length: Longest prompt in tokens, special tokens included; longer ones are cut and the result warns.
        pad_id: Token id that fills shorter prompts.
        vocab_size: Number of rows of the model's embedding table; every token id is below it.
        template: Text around each prompt, such as ``a photo of {}``. ``{}`` alone leaves prompts as they are.
    """

    ids: TensorSpec
    mask: TensorSpec | None
    max_length: int
    pad_id: int
    vocab_size: int
    template: str = "{}"

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        return (self.ids,) if self.mask is None else (self.ids, self.mask)

    def to_json(self) -> dict[str, object]:
        mask = None if self.mask is None else self.mask.to_json()
        own = {**asdict(self), "ids": self.ids.to_json(), "mask": mask}
        return {"kind": "text", **without_none(own)}

    @staticmethod
    def from_fields(fields: Fields) -> TextInput:
        return TextInput(
            ids=fields.one("ids", TensorSpec.from_fields),
            mask=fields.one("mask", TensorSpec.from_fields) if "mask" in fields else None,
            max_length=fields.integer("max_length", 1),
            pad_id=fields.integer("pad_id"),
            vocab_size=fields.integer("vocab_size", 1),
            template=fields.string("template"),
        )


@dataclass(frozen=True)
class TensorInput:
    """Tensors that the caller makes: features, sensor windows, anything that is no frame and no text."""

    tensors: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, object]:
        return {"kind": "tensor", "tensors": [t.to_json() for t in self.tensors]}

    @staticmethod
    def from_fields(fields: Fields) -> TensorInput:
        return TensorInput(fields.each("tensors", TensorSpec.from_fields))


Input = ImageInput | TextInput | TensorInput

_KINDS: dict[str, Callable[[Fields], Input]] = {
    "image": ImageInput.from_fields,
    "text": TextInput.from_fields,
    "tensor": TensorInput.from_fields,
}


def read_input(fields: Fields) -> Input:
    """Read one modality's contract by its ``kind``."""
    return _KINDS[fields.string("kind", tuple(_KINDS))](fields)
