"""Results: checked when made, frozen, and the same JSON everywhere."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from mmedge.errors import FrameInputError, MissingDependencyError, TaskError
from mmedge.results import Classification, Embedding, Grounding, RawResult, Result
from mmedge.sources.frame import Frame

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=timezone.utc)
BASE: dict[str, Any] = {
    "source": "clip.mp4",
    "frame": 7,
    "captured": 0.0,
    "captured_at": MOMENT,
    "age_ms": 12.3456,
    "dropped": 2,
    "state": "live",
    "media_time_s": 0.25,
    "prompt_version": 3,
    "latency_ms": 4.0,
}


def floats(*values: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


def classification(**changes: Any) -> Classification:
    return Classification(**{**BASE, "labels": ("red", "blue"), "scores": floats(0.1, 0.9), **changes})


def grounding(**changes: Any) -> Grounding:
    own = {
        "labels": ("red", "red"),
        "scores": floats(0.9, 0.6),
        "boxes": floats([1, 2, 3.337, 4], [5, 6, 7, 8]),
        "prompts": np.array([0, 0]),
        "all_scores": floats(0.9, 0.1, 0.2),
    }
    return Grounding(**{**BASE, **own, **changes})


def embedding(**changes: Any) -> Embedding:
    return Embedding(**{**BASE, "image_embedding": floats(0.1, 0.2), **changes})


def raw(**changes: Any) -> RawResult:
    return RawResult(**{**BASE, "outputs": {"mask": np.eye(2, dtype=np.uint8), "x": floats(0.1)}, **changes})


def test_json_of_a_grounding_is_one_line_in_the_promised_order() -> None:
    value = grounding().to_json()
    assert list(value) == [
        "source",
        "frame",
        "captured_at",
        "age_ms",
        "dropped",
        "state",
        "prompt_version",
        "labels",
        "scores",
        "boxes",
        "latency_ms",
    ]
    assert value["captured_at"] == "2026-03-04T05:06:07.000089Z"
    assert value["age_ms"] == 12.35
    assert value["scores"] == [0.9, 0.6]
    assert value["boxes"] == [[1.0, 2.0, 3.34, 4.0], [5.0, 6.0, 7.0, 8.0]]
    assert json.loads(json.dumps(value)) == value


def test_json_leaves_out_what_a_task_lacks() -> None:
    assert "boxes" not in classification().to_json()
    assert "warnings" not in classification().to_json()
    assert list(classification(warnings=("cut",)).to_json())[-2:] == ["latency_ms", "warnings"]
    assert list(embedding().to_json())[-2:] == ["image_embedding", "latency_ms"]


def test_json_tells_the_ages_of_tensors_where_there_are_any() -> None:
    value = classification(input_ages_ms={"imu": 7.0049, "radar": 1.0}).to_json()
    assert value["input_ages_ms"] == {"imu": 7.0, "radar": 1.0}
    assert list(value)[3:6] == ["age_ms", "input_ages_ms", "dropped"]
    assert "input_ages_ms" not in classification().to_json()


def test_the_monotonic_time_is_for_this_machine_alone() -> None:
    assert "captured" not in classification().to_json()


def test_the_age_can_be_asked_for_at_the_moment_of_acting() -> None:
    result = classification(captured=time.monotonic() - 2.0, age_ms=5.0)
    first = result.age_now_ms()
    time.sleep(0.02)
    assert 2000 <= first <= result.age_now_ms() - 15 < 12_000
    assert result.age_ms == 5.0


def test_json_is_in_utc_whatever_the_zone() -> None:
    there = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert classification(captured_at=there).to_json()["captured_at"] == "2026-03-04T05:06:07.000089Z"


def test_json_of_raw_outputs_holds_small_values_alone() -> None:
    outputs = raw(outputs={"mask": np.eye(2, dtype=np.uint8), "x": floats(0.1), "big": np.zeros((65, 64))}).to_json()[
        "outputs"
    ]
    assert outputs["mask"] == {"dtype": "uint8", "shape": [2, 2], "values": [[1, 0], [0, 1]]}
    assert outputs["x"]["values"] == [0.1]
    assert outputs["big"] == {"dtype": "float64", "shape": [65, 64]}


@pytest.mark.parametrize("make", [classification, grounding, embedding, raw])
def test_results_are_frozen(make: Any) -> None:
    result: Result = make()
    with pytest.raises(FrozenInstanceError):
        result.frame = 8  # type: ignore[misc]
    arrays = [
        getattr(result, name) for name in ("scores", "boxes", "prompts", "image_embedding") if hasattr(result, name)
    ]
    arrays += list(getattr(result, "outputs", {}).values())
    for array in (a for a in arrays if a is not None):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_the_arrays_of_the_caller_stay_writeable() -> None:
    scores = floats(0.1, 0.9)
    result = classification(scores=scores)
    assert scores.flags.writeable
    assert not result.scores.flags.writeable


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (classification, {"scores": floats(0.1)}, r"scores must be float32 \[2\], got float32 \[1\]"),
        (classification, {"scores": np.zeros(2)}, "got float64"),
        (classification, {"scores": [0.1, 0.9]}, "got list"),
        (classification, {"text_embedding": floats([1, 2])}, r"\[2, 'any'\], got float32 \[1, 2\]"),
        (grounding, {"boxes": floats([1, 2, 3], [4, 5, 6])}, r"boxes must be float32 \[2, 4\], got float32 \[2, 3\]"),
        (grounding, {"labels": ()}, r"scores must be float32 \[0\]"),
        (grounding, {"prompts": floats(0, 0)}, "prompts must be int64"),
        (embedding, {"image_embedding": floats([1, 2])}, r"\['any'\], got float32 \[1, 2\]"),
    ],
)
def test_results_check_themselves(make: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make(**change)


def test_the_top_label() -> None:
    assert classification().top == ("blue", pytest.approx(0.9))


def test_supervision_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    for result in (classification(), grounding()):
        with pytest.raises(MissingDependencyError, match="pip install supervision"):
            result.to_supervision()


def test_results_become_supervision_objects() -> None:
    supervision = pytest.importorskip("supervision")
    found = grounding().to_supervision()
    assert isinstance(found, supervision.Detections)
    assert found.xyxy.shape == (2, 4)
    assert found["class_name"].tolist() == ["red", "red"]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.6])
    assert supervision.Detections.merge([found, found]).xyxy.shape == (4, 4)
    assert (
        len(
            grounding(
                labels=(), scores=floats(), boxes=np.zeros((0, 4), np.float32), prompts=np.zeros(0, np.int64)
            ).to_supervision()
        )
        == 0
    )
    classes = classification().to_supervision()
    assert classes.get_top_k(1)[0].tolist() == [1]


SIZES = [(144, 176), (63, 500), (1, 1), (7, 3), (480, 640), (2160, 3840)]
LONG = "a very long description of the thing on the left side of the wooden table by the window " * 3
TEXTS = ["red", LONG, "日本語のプロンプト", "🙂 emoji \n new line \x00", "%s {} \\", "x" * 500]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("make", [classification, grounding], ids=["classification", "grounding"])
def test_anything_can_be_drawn_on_a_frame_of_any_size(size: tuple[int, int], text: str, make: Any) -> None:
    frame = np.full((*size, 3), 90, np.uint8)
    frame.flags.writeable = False
    drawn = make(labels=(text, text), state="frozen").plot(frame)
    assert (drawn.shape, drawn.dtype) == (frame.shape, np.uint8)
    assert drawn.flags.writeable
    assert (frame == 90).all()
    assert (drawn != frame).any()


@pytest.mark.parametrize(
    "box",
    [
        [-50, -50, 20, 20],
        [100, 100, 900, 900],
        [500, 500, 900, 900],
        [10, 10, 10, 10],
        [0, 0, 175, 143],
        [1e9, 0, 2e9, 9],
    ],
    ids=str,
)
def test_boxes_beyond_the_picture_are_clipped(box: list[float]) -> None:
    frame = np.zeros((144, 176, 3), np.uint8)
    drawn = grounding(boxes=floats(box, box)).plot(frame)
    assert drawn.any()


def test_text_grows_with_the_picture() -> None:
    shares = []
    for height, width in ((144, 176), (2160, 3840)):
        drawn = classification(labels=("red", "blue")).plot(np.zeros((height, width, 3), np.uint8))
        rows = np.nonzero(drawn.any(axis=(1, 2)))[0]
        shares.append((rows[-1] + 1) / height)
    assert 0.04 < shares[1] < shares[0] < 0.3


def test_each_prompt_has_its_colour() -> None:
    blank = np.zeros((200, 300, 3), np.uint8)
    boxes = floats([20, 60, 80, 120], [150, 60, 250, 120])
    drawn = grounding(boxes=boxes, prompts=np.array([0, 1])).plot(blank)
    assert drawn[90, 20].tolist() != drawn[90, 150].tolist()
    assert drawn[90, 20].any()
    assert drawn[90, 150].any()


@pytest.mark.parametrize("state", ["stale", "frozen", "reconnecting", "failed"])
@pytest.mark.parametrize("make", [classification, grounding, embedding, raw])
def test_a_source_that_is_not_live_is_written_on_the_picture(make: Any, state: str) -> None:
    frame = np.zeros((144, 176, 3), np.uint8)
    live, other = make().plot(frame), make(state=state).plot(frame)
    changed = np.nonzero((live != other).any(axis=(1, 2)))[0]
    assert changed.size
    assert changed[0] > 72


def test_a_frame_of_a_source_can_be_drawn_on() -> None:
    frame = Frame(np.zeros((50, 60, 3), np.uint8), "0", 0, 0.0, MOMENT)
    assert classification().plot(frame).shape == (50, 60, 3)


def test_what_is_no_frame_cannot_be_drawn_on() -> None:
    with pytest.raises(FrameInputError, match="grey"):
        classification().plot(np.zeros((5, 5), np.uint8))
