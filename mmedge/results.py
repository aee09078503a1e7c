"""What the model says about a frame: frozen objects of numpy arrays, checked when they are made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from mmedge.errors import MissingDependencyError, TaskError
from mmedge.inputs.image import FrameArray, check_frame
from mmedge.moment import age_ms
from mmedge.sources.frame import Frame

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_MOST_VALUES = 4096


class Stamp(TypedDict):
    """Where and when a result comes from: the fields that all results share."""

    source: str
    frame: int
    captured: float
    captured_at: datetime
    age_ms: float
    input_ages_ms: Mapping[str, float]
    dropped: int
    state: str
    media_time_s: float | None
    prompt_version: int
    latency_ms: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Result:
    """What all results share.

    Attributes:
        source: Name of the frame's source; ``array`` for frames that the caller made, ``tensors`` where there is none.
        frame: Index of the frame in its source.
        captured: When the frame was taken, as its source knows it, seconds of `time.monotonic`: the clock of all ages.
            It means nothing to another machine, and is not in the JSON. For an array it is the time of the call, for a
            model without frames that of the `update` of its oldest tensors.
        captured_at: The same moment in UTC. A source follows the monotonic clock from the moment it was opened, so a
            wall clock that is set later does not move it; for arrays and tensors it is the wall clock of the call.
        age_ms: Time from then until this result was made.
        input_ages_ms: Time from the `update` of each tensor modality that the model needs until this result was made,
            by its name; {} for a model without such.
        dropped: Frames of the source that were dropped between this frame and the one before.
        state: State of the source when the result was made, see `mmedge.streaming.states.State`: ``live`` means that
            the frame is what is there now; ``stale``, ``frozen`` and ``reconnecting`` that it is not.
        media_time_s: Place in the file in seconds; None where the source has no such thing.
        prompt_version: Which `set_text` call the result answers, from 1; 0 for a model without text.
        latency_ms: Time in the model, preparation of the frame included.
        warnings: What the reader should know, such as prompts that were cut.
    """

    source: str
    frame: int
    captured: float
    captured_at: datetime
    age_ms: float
    input_ages_ms: Mapping[str, float] = field(default_factory=dict)
    dropped: int = 0
    state: str = "live"
    media_time_s: float | None = None
    prompt_version: int = 0
    latency_ms: float
    warnings: tuple[str, ...] = ()

    def age_now_ms(self) -> float:
        """Time from `captured` until now: for whoever acts on the result later than it was made."""
        return age_ms(self.captured, time.monotonic())

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values, always in the same order; what a task lacks is absent."""
        moment = self.captured_at.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
        value: dict[str, Any] = {
            "source": self.source,
            "frame": self.frame,
            "captured_at": moment,
            "age_ms": round(self.age_ms, 2),
            **self._input_ages(),
            "dropped": self.dropped,
            "state": self.state,
            "prompt_version": self.prompt_version,
            **self._own_json(),
            "latency_ms": round(self.latency_ms, 2),
        }
        if self.warnings:
            value["warnings"] = list(self.warnings)
        return value

    def plot(self, frame: FrameArray | Frame) -> FrameArray:
        """A copy of `frame` with the result drawn on it.

        Args:
            frame: The frame that the result is about, uint8 [H, W, 3], BGR.

        Raises:
            FrameInputError: `frame` is no such picture.
        """
        from mmedge import drawing

        picture = frame.image if isinstance(frame, Frame) else frame
        check_frame(picture)
        return drawing.draw(self, picture)

    def _input_ages(self) -> dict[str, dict[str, float]]:
        ages = {name: round(age, 2) for name, age in self.input_ages_ms.items()}
        return {"input_ages_ms": ages} if ages else {}

    def _own_json(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Classification(Result):
    """How well each prompt fits the frame.

    Attributes:
        labels: The prompts, in the order in which they were set; class numbers for a model without text.
        scores: float32 [n], in the same order.
        image_embedding, text_embedding: float32 [d] and [n, d] where the model gives them.
    """

    labels: tuple[str, ...]
    scores: Floats
    image_embedding: Floats | None = None
    text_embedding: Floats | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        _freeze(self, "scores", np.float32, (count,))
        _freeze(self, "image_embedding", np.float32, (None,))
        _freeze(self, "text_embedding", np.float32, (count, None))

    @property
    def top(self) -> tuple[str, float]:
        """The label with the highest score, and that score."""
        best = int(self.scores.argmax())
        return self.labels[best], float(self.scores[best])

    def to_supervision(self) -> Any:
        """A ``supervision.Classifications``. Raises MissingDependencyError where supervision is not installed."""
        return _supervision().Classifications(class_id=np.arange(len(self.labels)), confidence=self.scores.copy())

    def _own_json(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "scores": _rounded(self.scores, 5)}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Grounding(Result):
    """Where the prompts are in the frame. k detections, best first.

    Attributes:
        labels: The prompt of each detection, k of them.
        scores: float32 [k], none below the threshold.
        boxes: float32 [k, 4], (x0, y0, x1, y1) in pixels of the frame.
        prompts: int64 [k], the place of each detection's prompt in the list that was set.
        all_scores: float32 [n], the best score of each of the n prompts, detected or not.
        track_ids: int64 [k], the same number for the same thing in successive frames of a source, from 1; None where
            nobody follows it (`mmedge.triggers.tracking`).
    """

    labels: tuple[str, ...]
    scores: Floats
    boxes: Floats
    prompts: Integers
    all_scores: Floats
    track_ids: Integers | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        _freeze(self, "scores", np.float32, (count,))
        _freeze(self, "boxes", np.float32, (count, 4))
        _freeze(self, "prompts", np.int64, (count,))
        _freeze(self, "all_scores", np.float32, (None,))
        _freeze(self, "track_ids", np.int64, (count,))

    def to_supervision(self) -> Any:
        """A ``supervision.Detections``. Raises MissingDependencyError where supervision is not installed."""
        return _supervision().Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.prompts.copy(),
            tracker_id=None if self.track_ids is None else self.track_ids.copy(),
            data={"class_name": np.array(self.labels, dtype=np.str_)},
        )

    def _own_json(self) -> dict[str, Any]:
        value = {"labels": list(self.labels), "scores": _rounded(self.scores, 5), "boxes": _rounded(self.boxes, 2)}
        return value if self.track_ids is None else {**value, "track_ids": self.track_ids.tolist()}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Embedding(Result):
    """Frame and prompts as vectors of one space.

    Attributes:
        labels: The n prompts; () for a model without text.
        image_embedding: float32 [d], None where the model gives none.
        text_embedding: float32 [n, d], None where the model gives none.
    """

    labels: tuple[str, ...] = ()
    image_embedding: Floats | None = None
    text_embedding: Floats | None = None

    def __post_init__(self) -> None:
        _freeze(self, "image_embedding", np.float32, (None,))
        _freeze(self, "text_embedding", np.float32, (len(self.labels) or None, None))

    def _own_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"labels": list(self.labels)} if self.labels else {}
        for name in ("image_embedding", "text_embedding"):
            array = getattr(self, name)
            if array is not None:
                value[name] = _rounded(array, 6)
        return value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RawResult(Result):
    """The model's outputs as they are.

    Attributes:
        outputs: Arrays by name.
    """

    outputs: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", {name: _read_only(array) for name, array in self.outputs.items()})

    def _own_json(self) -> dict[str, Any]:
        return {"outputs": {name: _described(array) for name, array in self.outputs.items()}}


def _freeze(result: Result, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    """Check one array field against its dtype and shape (None: any size), and make it read-only."""
    array = getattr(result, name)
    if array is None:
        return
    sizes = getattr(array, "shape", None)
    fits = (
        sizes is not None
        and len(sizes) == len(shape)
        and all(b in (None, a) for a, b in zip(sizes, shape, strict=True))
    )
    if not fits or array.dtype != dtype:
        got = type(array).__name__ if sizes is None else f"{array.dtype} {list(sizes)}"
        wanted = ["any" if size is None else size for size in shape]
        raise TaskError(f"{type(result).__name__}.{name} must be {np.dtype(dtype).name} {wanted}, got {got}")
    object.__setattr__(result, name, _read_only(array))


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _rounded(array: npt.NDArray[Any], digits: int) -> list[Any]:
    # Through float64, or 0.1 would be written as 0.10000000149011612.
    values: list[Any] = np.round(array.astype(np.float64), digits).tolist()
    return values


def _described(array: npt.NDArray[Any]) -> dict[str, Any]:
    """Dtype and shape, and the values where they are few: a line of JSON must not hold a whole mask."""
    described: dict[str, Any] = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if array.size <= _MOST_VALUES:
        described["values"] = _rounded(array, 6) if array.dtype.kind == "f" else array.tolist()
    return described


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise MissingDependencyError(
            f"to_supervision needs the supervision library ({error}); pip install supervision"
        ) from error
    return supervision
