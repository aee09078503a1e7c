"""What the outputs of a model mean: the names of its output tensors and how scores are made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from mmedge.bundle.fields import Fields, without_none


@dataclass(frozen=True)
class Classify:
    """Each frame is scored against each prompt.

    Attributes:
        logits: Output [1, n] or [n]: one logit per prompt.
        activation: ``softmax`` over the prompts, ``sigmoid`` per prompt, or ``none`` where outputs are scores already.
        image_embedding, text_embedding: Outputs [1, d] and [n, d] that results carry along, where the model has them.
    """

    logits: str
    activation: str = "softmax"
    image_embedding: str | None = None
    text_embedding: str | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(o for o in (self.logits, self.image_embedding, self.text_embedding) if o is not None)

    def to_json(self) -> dict[str, object]:
        return {"kind": "classify", **without_none(asdict(self))}

    @staticmethod
    def from_fields(fields: Fields) -> Classify:
        return Classify(
            logits=fields.string("logits"),
            activation=fields.string("activation", ("softmax", "sigmoid", "none")),
            image_embedding=_optional(fields, "image_embedding"),
            text_embedding=_optional(fields, "text_embedding"),
        )


@dataclass(frozen=True)
class Ground:
    """Each prompt is looked for in each frame and answered with boxes.

    Attributes:
        scores: Output [n, k]: score in 0..1 of each of k candidate boxes of each prompt.
        boxes: Output [n, k, 4]: (cx, cy, w, h) in 0..1 of the model's input picture.
        threshold: Candidates below it are no detections, unless the caller sets another.
    """

    scores: str
    boxes: str
    threshold: float = 0.5

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.scores, self.boxes)

    def to_json(self) -> dict[str, object]:
        return {"kind": "ground", **asdict(self)}

    @staticmethod
    def from_fields(fields: Fields) -> Ground:
        return Ground(fields.string("scores"), fields.string("boxes"), fields.number("threshold"))


@dataclass(frozen=True)
class Embed:
    """Frames and prompts become vectors of one space; an absent name means that the model has no such output."""

    image_embedding: str | None = None
    text_embedding: str | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(o for o in (self.image_embedding, self.text_embedding) if o is not None)

    def to_json(self) -> dict[str, object]:
        return {"kind": "embed", **without_none(asdict(self))}

    @staticmethod
    def from_fields(fields: Fields) -> Embed:
        return Embed(_optional(fields, "image_embedding"), _optional(fields, "text_embedding"))


@dataclass(frozen=True)
class Raw:
    """The output tensors are the result, under their own names."""

    @property
    def outputs(self) -> tuple[str, ...]:
        return ()

    def to_json(self) -> dict[str, object]:
        return {"kind": "raw"}

    @staticmethod
    def from_fields(fields: Fields) -> Raw:
        return Raw()


Task = Classify | Ground | Embed | Raw

_KINDS: dict[str, Callable[[Fields], Task]] = {
    "classify": Classify.from_fields,
    "ground": Ground.from_fields,
    "embed": Embed.from_fields,
    "raw": Raw.from_fields,
}


def read_task(fields: Fields) -> Task:
    """Read a task by its ``kind``."""
    return _KINDS[fields.string("kind", tuple(_KINDS))](fields)


def _optional(fields: Fields, name: str) -> str | None:
    return fields.string(name) if name in fields else None
