"""Frames that run at once: which bundles take them, and that each gets what it would get alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import (
    COLOR_STAGES,
    COLORS,
    IMAGE_INPUT,
    SEVERAL_IMAGE,
    SEVERAL_INPUT,
    TEXT_INPUT,
    color_goldens,
    frame_of,
    write_bundle,
)

import mmedge
from mmedge.batching import MOST_FRAMES, batch_modality, divide, join
from mmedge.bundle import Raw, TensorInput, TensorSpec, open_bundle
from mmedge.engines import open_engine
from mmedge.errors import EngineError, FrameInputError, InputError, TaskError, TensorInputError
from mmedge.loading import axis_ranges, load_program
from mmedge.results import Classification

TURNED_IMAGE = """
image (float[frames, 3, 8, 8] pixels) => (float[3, frames] image_vec) {
  pooled = GlobalAveragePool(pixels)
  flat = Flatten(pooled)
  image_vec = Transpose<perm = [1, 0]>(flat)
}
"""
TURNED_JOINT = """
joint (float[3, 1] image_vec, float[n, 3] text_vec) => (float[1, n] logits) {
  scores = MatMul(text_vec, image_vec)
  logits = Transpose<perm = [1, 0]>(scores)
}
"""
ROWS_IMAGE = """
image (float[frames, 3, 8, 8] pixels) => (float["3*frames", 1] image_vec) <int64[2] shape = {-1, 1}> {
  pooled = GlobalAveragePool(pixels)
  image_vec = Reshape(pooled, shape)
}
"""
NAMES = list(COLORS)


def colors(out: Path, image: str = SEVERAL_IMAGE, joint: str | None = None, **options: Any) -> Path:
    """The colour model for several frames."""
    stages = {**COLOR_STAGES, "image": image, "image+text": joint or COLOR_STAGES["image+text"]}
    goldens = options.pop("goldens", color_goldens())
    return write_bundle(out, stages, inputs={"image": SEVERAL_INPUT, "text": TEXT_INPUT}, goldens=goldens, **options)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colors(tmp_path_factory.mktemp("batch") / "colors.mmedge")


def random_frames(count: int, seed: int = 0) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    random = np.random.default_rng(seed)
    sizes = random.integers(8, 90, (count, 2))
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def runs(model: mmedge.Model) -> Mapping[str, int]:
    return {name: stage["runs"] for name, stage in model.stats().items()}


@pytest.mark.parametrize(
    ("image", "joint"),
    [(SEVERAL_IMAGE, None), (TURNED_IMAGE, TURNED_JOINT), (ROWS_IMAGE, TURNED_JOINT)],
    ids=["first axis", "last axis", "rows of each frame"],
)
def test_frames_at_once_get_what_they_get_alone(image: str, joint: str | None, tmp_path: Path) -> None:
    with mmedge.load(colors(tmp_path / "b.mmedge", image, joint)) as model:
        model.set_text(["red", "blue thing", "a green thing"])
        frames = random_frames(5)
        before = runs(model)
        together = model.run_batch(frames)
        after = runs(model)
        for ours, frame in zip(together, frames, strict=True):
            assert isinstance(ours, Classification)
            np.testing.assert_allclose(ours.scores, model(frame).to_json()["scores"], atol=1e-5)
    assert {name: after[name] - before[name] for name in after} == {"image": 1, "text": 0, "image+text": 5}


def test_more_frames_than_fit_run_in_parts(path: Path) -> None:
    with mmedge.load(path) as model:
        model.set_text(["red", "green", "blue"])
        chosen = [NAMES[i % 3] for i in range(2 * MOST_FRAMES + 3)]
        before = runs(model)["image"]
        results = model.run_batch([frame_of(name, 9 + i) for i, name in enumerate(chosen)])
        assert (model.max_batch, runs(model)["image"] - before) == (MOST_FRAMES, 3)
        assert [result.top[0] for result in results if isinstance(result, Classification)] == chosen
        assert [result.frame for result in results] == sorted(result.frame for result in results)


def test_without_an_open_axis_frames_run_one_by_one(tmp_path: Path) -> None:
    with mmedge.load(write_bundle(tmp_path / "one.mmedge")) as model:
        model.set_text(["red", "green", "blue"])
        results = model.run_batch([frame_of(name) for name in NAMES])
        assert (model.max_batch, model.info()["max_batch"], runs(model)["image"]) == (1, 1, 3)
        assert [result.top[0] for result in results if isinstance(result, Classification)] == NAMES


def test_an_engine_that_builds_for_each_shape_takes_one_frame(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmedge.engines.onnxruntime.OnnxRuntimeEngine.__init__", _static(monkeypatch))
    with mmedge.load(path) as model:
        assert model.max_batch == 1


def _static(monkeypatch: pytest.MonkeyPatch) -> Any:
    from mmedge.engines.onnxruntime import OnnxRuntimeEngine

    made = OnnxRuntimeEngine.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        self.static_shapes = True

    return init


def test_each_result_says_its_own_frame_and_age(path: Path) -> None:
    from mmedge.moment import frame_now

    with mmedge.load(path) as model:
        model.set_text(["red"])
        model.warmup(1)
        old = replace(frame_now(frame_of("red"), "hall", 7), dropped=2, state="stale")
        old = replace(old, captured=old.captured - 3.0)
        new = frame_now(frame_of("blue"), "door", 9)
        first, second = model.run_batch([old, new])
    assert (first.source, first.frame, first.dropped, first.state) == ("hall", 7, 2, "stale")
    assert (second.source, second.frame, second.dropped, second.state) == ("door", 9, 0, "live")
    assert first.age_ms >= 3000 > second.age_ms
    assert first.latency_ms <= second.latency_ms


def test_results_hold_no_values_of_other_frames(tmp_path: Path) -> None:
    stages = {**COLOR_STAGES, "image": SEVERAL_IMAGE}
    inputs = {"image": SEVERAL_INPUT, "text": TEXT_INPUT}
    bundle = write_bundle(tmp_path / "raw.mmedge", stages, inputs=inputs, outputs=("logits", "image_vec"), task=Raw())
    with mmedge.load(bundle) as model:
        model.set_text(["red"])
        results = model.run_batch([frame_of("red"), frame_of("blue")])
    for result in results:
        assert isinstance(result, mmedge.RawResult)
        assert result.outputs["image_vec"].shape == (1, 3)
        held = result.outputs["image_vec"]
        while isinstance(held.base, np.ndarray):
            held = held.base
        assert held.shape == (1, 3)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (frame_of("red"), FrameInputError, "takes a list of frames, got ndarray"),
        ("frame", FrameInputError, "takes a list of frames, got str"),
        ([frame_of("red"), frame_of("red")[..., 0]], FrameInputError, "it is grey"),
        ([frame_of("red"), None], FrameInputError, "needs a frame"),
    ],
    ids=["one frame", "text", "grey", "none"],
)
def test_what_is_no_list_of_frames(given: Any, error: type[Exception], words: str, path: Path) -> None:
    with mmedge.load(path) as model:
        model.set_text(["red"])
        with pytest.raises(error, match=words):
            model.run_batch(given)
        assert model.run_batch([]) == []
        assert len(model.run_batch((frame_of("red"),))) == 1


def test_a_stage_that_is_not_what_the_manifest_says(tmp_path: Path) -> None:
    mixed = SEVERAL_IMAGE.replace(
        "image_vec = Flatten(pooled)", "flat = Flatten(pooled)\n  image_vec = ReduceMean<keepdims = 1>(flat, zero)"
    )
    mixed = mixed.replace("{\n", "<int64[1] zero = {0}> {\n", 1)
    with mmedge.load(colors(tmp_path / "mixed.mmedge", mixed, goldens=())) as model:
        model.set_text(["red"])
        with pytest.raises(EngineError, match=r"'image_vec' of 2 frames must be \['frames', 3\], got \[1, 3\]"):
            model.run_batch(random_frames(2))


def test_goldens_find_a_stage_that_mixes_frames(tmp_path: Path) -> None:
    """It is right for one frame, and for several takes something from the others."""
    mixing = """
    image (float[frames, 3, 8, 8] pixels) => (float[frames, 3] image_vec) <int64[1] zero = {0}> {
      pooled = GlobalAveragePool(pixels)
      flat = Flatten(pooled)
      mean = ReduceMean<keepdims = 1>(flat, zero)
      twice = Add(flat, mean)
      two = Constant<value = float {2.0}>()
      image_vec = Div(twice, two)
    }
    """
    found = mmedge.verify(colors(tmp_path / "mixing.mmedge", mixing))
    assert not found.passed
    assert "output logits differs by" in found.reasons[0]
    assert mmedge.verify(colors(tmp_path / "right.mmedge")).passed


def test_one_golden_is_enough_for_the_batch(tmp_path: Path) -> None:
    assert mmedge.verify(colors(tmp_path / "one.mmedge", goldens=color_goldens()[:1])).passed


def test_a_bad_result_is_an_error_of_the_batch(tmp_path: Path) -> None:
    logs = SEVERAL_IMAGE.replace("image_vec = Flatten(pooled)", "flat = Flatten(pooled)\n  image_vec = Log(flat)")
    with mmedge.load(colors(tmp_path / "log.mmedge", logs, goldens=())) as model:
        model.set_text(["red"])
        with pytest.raises(TaskError, match="NaN or infinite"):
            model.run_batch([np.full((9, 9, 3), 90, np.uint8), np.zeros((9, 9, 3), np.uint8)])


@pytest.mark.parametrize(
    ("pixels", "others", "image"),
    [
        (IMAGE_INPUT, TEXT_INPUT, COLOR_STAGES["image"]),
        (
            replace(SEVERAL_INPUT, tensor=replace(SEVERAL_INPUT.tensor, shape=("n", 3, 8, 8))),
            TEXT_INPUT,
            SEVERAL_IMAGE.replace("frames", "n"),
        ),
        (SEVERAL_INPUT, TEXT_INPUT, SEVERAL_IMAGE.replace("[frames, 3] image", "[1, 3] image")),
    ],
    ids=["no open axis", "the axis counts prompts", "an output without frames"],
)
def test_bundles_that_take_one_frame(pixels: Any, others: Any, image: str, tmp_path: Path) -> None:
    stages = {**COLOR_STAGES, "image": image}
    with open_bundle(write_bundle(tmp_path / "b.mmedge", stages, inputs={"image": pixels, "text": others})) as bundle:
        assert batch_modality(bundle.manifest) is None
        program = load_program(bundle, open_engine(), "fp32")
        with pytest.raises(InputError, match="takes 1 to 1 frames at once, got 2"):
            program.prepare_batch([{"pixels": np.zeros((1, 3, 8, 8), np.float32)}] * 2)


def test_a_model_without_frames(tmp_path: Path) -> None:
    stage = "imu (float[t] window) => (float total) { total = ReduceSum<keepdims = 0>(window) }"
    imu = TensorInput((TensorSpec("window", "float32", ("t",)),))
    with mmedge.load(
        write_bundle(tmp_path / "i.mmedge", {"imu": stage}, inputs={"imu": imu}, outputs=("total",), task=Raw())
    ) as model:
        model.update("imu", window=np.ones(3, np.float32))
        results = model.run_batch([None, None])
        assert (model.max_batch, len(results)) == (1, 2)


def test_engines_that_build_for_a_range_build_for_the_batch(path: Path) -> None:
    with open_bundle(path) as bundle:
        sizes = axis_ranges(bundle.manifest)["frames"]
    assert (sizes.least, sizes.usual, sizes.most) == (1, 1, MOST_FRAMES)


def test_frames_of_unlike_shapes_are_not_joined() -> None:
    with pytest.raises(TensorInputError, match="must have one shape"):
        join([{"x": np.zeros((1, 2))}, {"x": np.zeros((1, 3))}])


def test_what_cannot_be_divided() -> None:
    spec = TensorSpec("x", "float32", (2, "frames"))
    parts = divide({"x": np.arange(6.0).reshape(2, 3)}, {"x": spec}, "frames", 3)
    assert [part["x"].tolist() for part in parts] == [[[0.0], [3.0]], [[1.0], [4.0]], [[2.0], [5.0]]]
    with pytest.raises(EngineError, match="must be"):
        divide({"x": np.zeros((2, 3))}, {"x": spec}, "frames", 2)
