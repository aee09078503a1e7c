"""Verification: PASS only for a bundle that gives here what its source model gave."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import COLOR_STAGES, IMAGE_INPUT, color_goldens, frame_of, write_bundle

import mmedge
from mmedge.agreement import relative_error
from mmedge.bundle import Golden, Raw, TensorInput, TensorSpec, Variant, open_bundle, seal
from mmedge.errors import BundleError, BundleFormatError, EngineError
from mmedge.program import StagedProgram


def test_a_good_bundle_passes(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b", external=True)
    result = mmedge.verify(path)
    assert result.passed
    assert (result.samples, result.precision, result.tolerance) == (2, "fp32", 1e-5)
    assert result.errors["logits"] is not None
    assert result.errors["logits"] < 1e-6
    assert [(p.tokens_equal, p.pixels_max_abs) for p in result.preparation] == [(True, 0.0)] * 2
    assert result.engines["image"].endswith("on cpu")
    value = result.to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    with open_bundle(path) as bundle:
        assert mmedge.verify(bundle, engine="onnxruntime:cpu", precision="fp32").passed
        assert bundle.goldens()


def test_no_goldens_do_not_pass(tmp_path: Path) -> None:
    result = mmedge.verify(write_bundle(tmp_path / "b", goldens=()))
    assert not result.passed
    assert "no goldens" in result.reasons[0]


def changed(**changes: Any) -> Callable[[Golden], Golden]:
    return lambda golden: replace(golden, **changes)


def outputs(change: Callable[[Any], Any]) -> Callable[[Golden], Golden]:
    return lambda golden: replace(golden, outputs={"logits": change(golden.outputs["logits"])})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(outputs(lambda a: a * 1.001), r"logits differs by 0\.000999 .*at most 1e-05", id="drift"),
        pytest.param(outputs(lambda a: a * np.nan), "logits is not finite", id="nan"),
        pytest.param(outputs(lambda a: a * 0), "logits is not finite", id="zero"),
        pytest.param(outputs(lambda a: a[:, :1]), "another shape", id="shape"),
        pytest.param(changed(prompts=("red", "green thing")), "sample 1: the prompts give other tokens", id="tokens"),
        pytest.param(changed(prompts=("red",)), "other tokens", id="fewer-prompts"),
        pytest.param(changed(frame=frame_of("blue")), "sample 1: pixels differ by 1;", id="pixels"),
    ],
)
def test_what_differs_is_named(tmp_path: Path, change: Callable[[Golden], Golden], reason: str) -> None:
    first, second = color_goldens()
    result = mmedge.verify(write_bundle(tmp_path / "b", COLOR_STAGES, goldens=[first, change(second)]))
    assert not result.passed
    assert len(result.reasons) == 1
    assert re.search(reason, result.reasons[0])
    json.dumps(result.to_json(), allow_nan=False)


def test_nan_in_ours_never_passes(tmp_path: Path) -> None:
    joint = """
    joint (float[1, 3] image_vec, float[n, 3] text_vec) => (float[1, n] logits) {
      turned = Transpose<perm = [1, 0]>(text_vec)
      product = MatMul(image_vec, turned)
      zero = Sub(product, product)
      logits = Div(zero, zero)
    }
    """
    path = write_bundle(tmp_path / "b", {**COLOR_STAGES, "image+text": joint}, goldens=color_goldens())
    result = mmedge.verify(path)
    assert result.errors == {"logits": None}
    assert not result.passed


def test_prompts_may_be_padded_otherwise(tmp_path: Path) -> None:
    first, second = color_goldens()
    wide = {
        **first.inputs,
        **{n: np.pad(first.inputs[n], ((0, 0), (0, 4))) for n in ("input_ids", "attention_mask")},
    }
    result = mmedge.verify(write_bundle(tmp_path / "b", COLOR_STAGES, goldens=[replace(first, inputs=wide), second]))
    assert result.passed


def test_goldens_without_frame_and_prompts_pass_on_their_outputs(tmp_path: Path) -> None:
    bare = [replace(golden, frame=None, prompts=()) for golden in color_goldens()]
    result = mmedge.verify(write_bundle(tmp_path / "b", COLOR_STAGES, goldens=bare))
    assert result.passed
    assert result.preparation == ()


@pytest.mark.parametrize("part", ["inputs", "outputs"])
def test_goldens_that_lack_a_tensor_are_refused(tmp_path: Path, part: str) -> None:
    (golden,) = color_goldens()[:1]
    less = dict(getattr(golden, part))
    less.pop(next(iter(less)))
    bad = replace(golden, **{part: {**less, "other": np.zeros(1)}})
    with pytest.raises(BundleFormatError, match="lacks the"):
        mmedge.verify(write_bundle(tmp_path / "b", COLOR_STAGES, goldens=[bad]))


def test_goldens_whose_prompts_nobody_could_set_are_a_fault_of_the_bundle(tmp_path: Path) -> None:
    goldens = [replace(golden, prompts=("",)) for golden in color_goldens()]
    with pytest.raises(BundleFormatError, match=r"goldens\.npz: .*prompt 0 is empty"):
        mmedge.verify(write_bundle(tmp_path / "b", COLOR_STAGES, goldens=goldens))


def test_goldens_whose_sizes_contradict_each_other_are_a_fault_of_the_bundle(tmp_path: Path) -> None:
    inputs = {name: TensorInput((TensorSpec(name, "float32", ("n",)),)) for name in ("a", "b")}
    stage = "sum (float[n] a, float[n] b) => (float[n] sum) { sum = Add(a, b) }"
    sizes = {"a": np.ones(3, np.float32), "b": np.ones(1, np.float32)}
    goldens = [Golden(sizes, {"sum": np.full(3, 2, np.float32)})]
    path = write_bundle(tmp_path / "b", {"a+b": stage}, inputs=inputs, outputs=("sum",), task=Raw(), goldens=goldens)
    with pytest.raises(BundleFormatError, match="axis 'n' must have one size"):
        mmedge.verify(path)


@pytest.mark.parametrize(("levels", "passed"), [(0, True), (1, True), (2, False)])
def test_pixels_that_stay_uint8_may_differ_by_one_level(tmp_path: Path, levels: int, passed: bool) -> None:
    contract = replace(IMAGE_INPUT, tensor=TensorSpec("pixels", "uint8", (1, 3, 8, 8)))
    stage = "image (uint8[1, 3, 8, 8] pixels) => (float[1, 3, 8, 8] seen) { seen = Cast<to = 1>(pixels) }"
    pixels = np.full((1, 3, 8, 8), 100 + levels, np.uint8)
    golden = Golden({"pixels": pixels}, {"seen": pixels.astype(np.float32)}, np.full((20, 30, 3), 100, np.uint8))
    inputs = {"image": contract}
    path = write_bundle(
        tmp_path / "b", {"image": stage}, inputs=inputs, outputs=("seen",), task=Raw(), goldens=[golden]
    )
    result = mmedge.verify(path)
    assert result.passed == passed
    assert [(p.pixels_max_abs, p.pixels_limit) for p in result.preparation] == [(levels, 1.0)]


def test_without_a_path_the_built_in_bundle_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bundle(tmp_path / "b")
    monkeypatch.setattr("mmedge.loading.built_in_bundle", lambda: path)
    result = mmedge.verify()
    assert (result.bundle, result.passed) == ("tiny 1", True)


def test_a_program_that_keeps_stale_values_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = StagedProgram._once

    def stale(self: StagedProgram, key: Any, group: Any, of: Any, values: Any) -> Any:
        last = self._last.get(key)
        return last[1] if last is not None else once(self, key, group, of, values)

    path = write_bundle(tmp_path / "b")
    monkeypatch.setattr(StagedProgram, "_once", stale)
    assert not mmedge.verify(path).passed


def test_the_first_sample_is_replayed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, seen = StagedProgram.run, []

    def watched(self: StagedProgram, inputs: Any) -> Any:
        result = run(self, inputs)
        seen.append(result["logits"].shape)
        return result

    path = write_bundle(tmp_path / "b")
    monkeypatch.setattr(StagedProgram, "run", watched)
    mmedge.verify(path)
    assert seen == [(1, 2), (1, 3), (1, 2)]


def test_errors_of_bundle_and_engine_come_through(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match="no variant"):
        mmedge.verify(path, precision="int4")
    with pytest.raises(EngineError, match="engine must be"):
        mmedge.verify(path, engine="none")


@pytest.mark.parametrize(
    ("ours", "golden", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.5], [3.0, 4.0], 0.1),
        ([0.0], [0.0], 0.0),
        ([1.0], [0.0], np.inf),
        ([np.nan], [1.0], np.inf),
        ([1.0], [np.inf], np.inf),
        ([[1.0]], [1.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_relative_error(ours: Any, golden: Any, error: float) -> None:
    assert relative_error(np.array(ours), np.array(golden)) == pytest.approx(error)


def rounding_variant(folder: Path, **limits: float) -> Path:
    """The colour bundle with a variant ``int8`` that has the files of fp32, and limits instead of a tolerance."""
    with open_bundle(folder) as bundle:
        manifest = bundle.manifest
    stages = tuple(replace(stage, files={**stage.files, "int8": stage.files["fp32"]}) for stage in manifest.stages)
    variant = Variant(True, 0.0, {}, limits=limits)
    seal(folder, replace(manifest, stages=stages, variants={**manifest.variants, "int8": variant}))
    return folder


@pytest.mark.parametrize(
    ("scale", "limits", "reason"),
    [
        (1.01, {"cosine": 0.999, "relative_error": 0.02, "top1": 1.0}, None),
        (1.01, {"cosine": 0.999, "relative_error": 0.001}, r"relative_error is 0\.0099.*at most 0\.001"),
        (-1.0, {"cosine": 0.999, "top1": 1.0}, r"cosine is -1; at least 0\.999"),
        (-1.0, {"top1": 0.5}, r"top1 is 0; at least 0\.5"),
        (1.0, {"iou": 0.5}, "figure iou .* cannot be measured"),
    ],
    ids=["inside", "scale", "cosine", "top1", "of another task"],
)
def test_a_variant_that_rounds_is_judged_by_its_figures(
    scale: float, limits: dict[str, float], reason: str | None, tmp_path: Path
) -> None:
    goldens = [outputs(lambda a: a * scale)(golden) for golden in color_goldens()]
    path = rounding_variant(write_bundle(tmp_path / "b", COLOR_STAGES, goldens=goldens, form="folder"), **limits)
    result = mmedge.verify(path, precision="int8")
    assert result.limits == limits
    assert set(result.figures) == {"cosine", "relative_error", "top1"}
    assert json.loads(json.dumps(result.to_json(), allow_nan=False)) == result.to_json()
    if reason is None:
        assert result.passed
        assert not mmedge.verify(path, precision="fp32").passed, "the tolerance of fp32 still holds for fp32"
    else:
        assert re.search(reason, result.reasons[0])


def test_an_output_that_became_constant_is_named_whatever_its_figures(tmp_path: Path) -> None:
    joint = """
    joint (float[1, 3] image_vec, float[n, 3] text_vec) => (float[1, n] logits)
    <float zero = {0}, float[1, 3] mean = {100, 100, 100}> {
      still = Mul(image_vec, zero)
      image = Add(still, mean)
      turned = Transpose<perm = [1, 0]>(text_vec)
      logits = MatMul(image, turned)
    }
    """
    first, other = color_goldens()[0], color_goldens()[0]
    pixels = np.roll(first.inputs["pixels"], 1, axis=1)
    moved = {"logits": np.array([[800.0, 900.0]], np.float32)}
    goldens = [
        replace(first, outputs={"logits": np.array([[800.0, 905.0]], np.float32)}, frame=None),
        replace(other, outputs=moved, inputs={**other.inputs, "pixels": pixels}, frame=None),
    ]
    stages = {**COLOR_STAGES, "image+text": joint}
    path = rounding_variant(write_bundle(tmp_path / "b", stages, goldens=goldens, form="folder"), cosine=0.99)
    result = mmedge.verify(path, precision="int8")
    assert result.figures["cosine"] > 0.99
    assert result.reasons == ("output logits is the same for all samples, and the source model's is not",)
