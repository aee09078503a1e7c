"""The model on the device, from frame and prompts to result."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import COLOR_STAGES, COLORS, IMAGE_INPUT, TEXT_INPUT, frame_of, word_tokenizer, write_bundle

import mmedge
from mmedge.bundle import Classify, Embed, Ground, Raw, TensorInput, TensorSpec, open_bundle
from mmedge.errors import (
    BundleError,
    BundleFormatError,
    EngineError,
    FrameInputError,
    InputError,
    TaskError,
    TensorInputError,
    TextInputError,
)
from mmedge.loading import image_preprocessor
from mmedge.results import Classification, Embedding, Grounding, RawResult
from mmedge.sources.frame import Frame

GROUND_STAGE = """
joint (float[1, 3] image_vec, float[n, 3] text_vec) => (float[n, 1] scores, float[n, 1, 4] boxes)
<float[1, 1] eighth = {0.125}, float[1, 1, 4] middle = {0.5, 0.5, 0.5, 0.25}, int64[1] last = {2}> {
  turned = Transpose<perm = [1, 0]>(image_vec)
  logits = MatMul(text_vec, turned)
  scores = Mul(logits, eighth)
  deep = Unsqueeze(scores, last)
  nothing = Sub(deep, deep)
  boxes = Add(nothing, middle)
}
"""
IMU_STAGE = "imu (float[t] window) => (float total) { total = ReduceSum<keepdims = 0>(window) }"
IMU_INPUT = TensorInput((TensorSpec("window", "float32", ("t",)),))


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("colors") / "colors.mmedge")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stages = {**COLOR_STAGES, "image+text": GROUND_STAGE}
    out = tmp_path_factory.mktemp("boxes") / "boxes.mmedge"
    return write_bundle(out, stages, outputs=("scores", "boxes"), task=Ground("scores", "boxes", 0.5), goldens=())


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_a_frame_is_scored_against_each_prompt(colors: Path, color: str, threads: int | None) -> None:
    with mmedge.load(colors, threads=threads) as model:
        model.set_text(list(COLORS))
        result = model(frame_of(color))
    assert isinstance(result, Classification)
    assert result.labels == tuple(COLORS)
    assert result.top[0] == color
    assert result.scores[list(COLORS).index(color)] == pytest.approx(1 / (1 + 2 * np.exp(-8)), rel=1e-5)


def test_where_and_when_of_a_bare_frame(colors: Path) -> None:
    before = datetime.now(timezone.utc)
    with mmedge.load(colors) as model:
        model.set_text(["red"])
        results = [model(frame_of("red")) for _ in range(3)]
    assert [r.frame for r in results] == [0, 1, 2]
    assert before <= results[0].captured_at <= results[1].captured_at <= datetime.now(timezone.utc)
    for result in results:
        assert (result.source, result.dropped, result.state, result.media_time_s) == ("array", 0, "live", None)
        assert 0 < result.latency_ms <= result.age_ms < 10_000


def test_where_and_when_of_a_frame_of_a_source(colors: Path) -> None:
    moment = datetime(2026, 5, 6, tzinfo=timezone.utc)
    frame = Frame(frame_of("red"), "clip.mp4", 41, time.monotonic() - 2.5, moment, 3, "stale", 1.25)
    with mmedge.load(colors) as model:
        model.set_text(["red"])
        result = model(frame)
    assert (result.source, result.frame, result.captured_at) == ("clip.mp4", 41, moment)
    assert (result.dropped, result.state, result.media_time_s) == (3, "stale", 1.25)
    assert 2500 < result.age_ms < 12_500
    json.dumps(result.to_json())


def test_the_prompt_version_counts_the_calls(colors: Path) -> None:
    with mmedge.load(colors) as model:
        assert (model.prompt_version, model.prompts) == (0, ())
        for version, prompts in enumerate((["red"], ["blue", "red"], ["red"], ["red"]), start=1):
            model.set_text(prompts)
            result = model(frame_of("red"))
            assert isinstance(result, Classification)
            assert (result.prompt_version, result.labels) == (version, tuple(prompts))
        stats = model.stats()
    assert (stats["text"]["runs"], stats["text"]["cache_hits"]) == (2, 2)
    assert (stats["image"]["runs"], stats["image+text"]["runs"]) == (4, 4)


def test_labels_are_the_words_that_were_set_last_even_where_tokens_are_equal(colors: Path) -> None:
    with mmedge.load(colors) as model:
        for unknown in ("robot", "spoon"):
            model.set_text([unknown, "red"])
            result = model(frame_of("red"))
            assert isinstance(result, Classification)
            assert result.labels == (unknown, "red")
        assert model.stats()["text"]["runs"] == 1


def test_prompts_that_cannot_be_used_leave_the_old_ones(colors: Path) -> None:
    with mmedge.load(colors) as model:
        model.set_text(["red"])
        for bad in ("red", [], [""], [3]):
            with pytest.raises(TextInputError):
                model.set_text(bad)  # type: ignore[arg-type]
        result = model(frame_of("red"))
    assert (result.prompt_version, model.prompts) == (1, ("red",))


def test_a_cut_prompt_warns_with_each_result(colors: Path) -> None:
    with mmedge.load(colors) as model:
        model.set_text(["red " * 20])
        assert model(frame_of("red")).warnings[0].startswith("prompt 0 was cut from 21 to 6 tokens")
        model.set_text(["red"])
        assert model(frame_of("red")).warnings == ()


def test_boxes_are_pixels_of_the_frame(boxes: Path) -> None:
    with mmedge.load(boxes) as model:
        model.set_text(["blue", "red"])
        result = model(frame_of("red", 48, 64))
        assert isinstance(result, Grounding)
        assert result.labels == ("red",)
        assert result.scores.tolist() == [1.0]
        assert result.all_scores.tolist() == [0.0, 1.0]
        # The middle half of the centred 48x48 square, a quarter high.
        np.testing.assert_allclose(result.boxes, [[18.4, 18, 45.6, 30]], atol=2)
        json.dumps(result.to_json())
        assert result.plot(frame_of("red")).shape == (48, 64, 3)


@pytest.mark.parametrize(("threshold", "found"), [(None, 1), (0.0, 2), (1.0, 1)])
def test_the_threshold_can_be_set(boxes: Path, threshold: float | None, found: int) -> None:
    with mmedge.load(boxes, threshold=threshold) as model:
        model.set_text(["blue", "red"])
        result = model(frame_of("red"))
    assert isinstance(result, Grounding)
    assert len(result.labels) == found


def test_a_threshold_may_be_a_number_of_numpy(boxes: Path) -> None:
    with mmedge.load(boxes, threshold=np.float32(0.25)) as model:  # type: ignore[arg-type]
        assert model.info()["task"]["threshold"] == 0.25


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), "0.5", True, [1]])
def test_a_threshold_is_a_score(boxes: Path, threshold: Any) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        mmedge.load(boxes, threshold=threshold)


def test_a_threshold_needs_boxes(colors: Path) -> None:
    with pytest.raises(InputError, match="'classify'"):
        mmedge.load(colors, threshold=0.5)


def test_a_model_of_tensors_alone(tmp_path: Path) -> None:
    out = write_bundle(
        tmp_path / "imu", {"imu": IMU_STAGE}, inputs={"imu": IMU_INPUT}, outputs=("total",), task=Raw(), goldens=()
    )
    with mmedge.load(out) as model:
        with pytest.raises(TensorInputError, match=r"update\('imu', window="):
            model()
        window = np.array([1, 2, 3.5], np.float32)
        model.update("imu", window=window)
        window[:] = 0
        result = model()
        assert isinstance(result, RawResult)
        assert (result.outputs["total"].item(), result.source, result.prompt_version) == (6.5, "tensors", 0)
        with pytest.raises(TensorInputError, match="got float64"):
            model.update("imu", window=np.zeros(3))
        with pytest.raises(TensorInputError, match="update is for imu"):
            model.update("image", pixels=np.zeros(3))
        with pytest.raises(TextInputError, match="takes no text"):
            model.set_text(["red"])
        with pytest.raises(FrameInputError, match="takes no frame"):
            model(frame_of("red"))
        model.warmup()
        assert model.info()["inputs"] == {"imu": "tensor"}


def test_an_image_model_without_text(tmp_path: Path) -> None:
    out = write_bundle(
        tmp_path / "image",
        {"image": COLOR_STAGES["image"]},
        inputs={"image": IMAGE_INPUT},
        outputs=("image_vec",),
        task=Embed(image_embedding="image_vec"),
        goldens=(),
    )
    with mmedge.load(out) as model:
        result = model(frame_of("green"))
    assert isinstance(result, Embedding)
    assert result.image_embedding is not None
    np.testing.assert_allclose(result.image_embedding, [0, 1, 0], atol=1e-6)


def test_a_classifier_without_text(tmp_path: Path) -> None:
    task = Classify("image_vec", "none")
    stages, inputs = {"image": COLOR_STAGES["image"]}, {"image": IMAGE_INPUT}
    out = write_bundle(tmp_path / "b", stages, inputs=inputs, outputs=("image_vec",), task=task, goldens=())
    with mmedge.load(out) as model:
        result = model(frame_of("green"))
    assert isinstance(result, Classification)
    assert result.top == ("1", 1.0)


def test_no_text_yet_is_said_with_the_way_out(colors: Path) -> None:
    with mmedge.load(colors) as model, pytest.raises(TextInputError, match="call set_text"):
        model(frame_of("red"))


@pytest.mark.parametrize("frame", [None, np.zeros((4, 4), np.uint8), "frame.jpg", Frame])
def test_what_is_no_frame_is_refused(colors: Path, frame: Any) -> None:
    with mmedge.load(colors) as model:
        model.set_text(["red"])
        with pytest.raises(FrameInputError):
            model(frame)


def test_outputs_that_are_not_finite_never_become_a_result(tmp_path: Path) -> None:
    joint = """
    joint (float[1, 3] image_vec, float[n, 3] text_vec) => (float[1, n] logits) {
      turned = Transpose<perm = [1, 0]>(text_vec)
      product = MatMul(image_vec, turned)
      zero = Sub(product, product)
      logits = Div(product, zero)
    }
    """
    out = write_bundle(tmp_path / "b", {**COLOR_STAGES, "image+text": joint}, goldens=())
    with mmedge.load(out) as model:
        model.set_text(["red"])
        with pytest.raises(TaskError, match="output 'logits' holds 1 of 1 values"):
            model(frame_of("red"))


def test_a_closed_model_says_so(colors: Path) -> None:
    model = mmedge.load(colors)
    model.set_text(["red"])
    model.close()
    model.close()
    for call in (
        lambda: model(frame_of("red")),
        lambda: model.set_text(["red"]),
        lambda: model.update("imu"),
        lambda: model.stream("0"),
        model.stats,
        model.info,
        model.warmup,
    ):
        with pytest.raises(EngineError, match="was closed"):
            call()


def test_warmup_does_not_count_as_frames(colors: Path) -> None:
    with mmedge.load(colors) as model:
        with pytest.raises(TextInputError):
            model.warmup()
        model.set_text(["red"])
        model.warmup(2)
        assert model.stats()["image"]["runs"] == 3
        assert model(frame_of("red")).frame == 0


def test_info_and_the_log_say_what_really_runs(colors: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mmedge"), mmedge.load(colors) as model:
        info = model.info()
    assert [stage["provider"] for stage in info["stages"]] == ["cpu"] * 3
    assert list(info["stages"][2]["label"]) == ["image", "text"]
    assert (info["precision"], info["verified"], info["task"]["kind"]) == ("fp32", True, "classify")
    json.dumps(info)
    assert "stages image, text, image+text run on onnxruntime" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_variant_that_was_not_verified_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mmedge.load(write_bundle(tmp_path / "b", verified=False)) as model:
        assert model.info()["verified"] is False
    assert "differs from its source model" in caplog.text


@pytest.mark.parametrize("precision", ["int8", 8, ["fp32"]])
def test_an_unknown_variant_is_refused(colors: Path, precision: Any) -> None:
    with pytest.raises(BundleError, match=r"no variant .*; it has fp32"):
        mmedge.load(colors, precision=precision)


@pytest.mark.parametrize("path", [3, b"door.mmedge", ["door.mmedge"]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(BundleError, match=r"must be a string or a pathlib\.Path"):
        mmedge.load(path)


@pytest.mark.parametrize("runs", ["3", -1, 1.5, True])
def test_warmup_takes_a_count(colors: Path, runs: Any) -> None:
    with mmedge.load(colors) as model:
        model.set_text(["red"])
        with pytest.raises(InputError, match="whole number"):
            model.warmup(runs)


@pytest.mark.parametrize("threads", ["2", 0, 1.5, True])
def test_threads_are_a_count(colors: Path, threads: Any) -> None:
    with pytest.raises(EngineError, match="whole number"):
        mmedge.load(colors, threads=threads)


def test_more_threads_than_a_frame_takes_are_no_error(colors: Path) -> None:
    with open_bundle(colors) as bundle:
        image = image_preprocessor(bundle.manifest, 1000)
    assert image is not None
    assert image.tensors(frame_of("red"))["pixels"].shape == (1, 3, 8, 8)


def test_a_wrong_tokenizer_is_found_when_loading(tmp_path: Path) -> None:
    other = word_tokenizer([*"abcdefghij", "[UNK]", "[END]"])
    with pytest.raises(BundleFormatError, match="wrong tokenizer"):
        mmedge.load(write_bundle(tmp_path / "b", tokenizer=other))


def test_two_modalities_of_one_kind_are_refused(tmp_path: Path) -> None:
    right = TensorSpec("right", "float32", (1, 3, 8, 8))
    inputs = {"image": IMAGE_INPUT, "text": TEXT_INPUT, "right": replace(IMAGE_INPUT, tensor=right)}
    with pytest.raises(BundleFormatError, match=r"2 modalities of one kind \(image, right\)"):
        mmedge.load(write_bundle(tmp_path / "b", COLOR_STAGES, inputs=inputs))


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle"):
        mmedge.load(tmp_path / "none.mmedge")
