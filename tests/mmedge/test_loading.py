"""What engines are told about the stages of a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.bundles import COLOR_STAGES, IMAGE_INPUT, TEXT_INPUT, write_bundle

from mmedge.bundle import Manifest, Plan, Raw, TensorInput, TensorSpec, Variant, open_bundle, seal
from mmedge.engines import AxisRange, StageModel
from mmedge.loading import axis_ranges, stage_models

IMU_STAGE = "imu (float[t] window) => (float total) { total = ReduceSum<keepdims = 0>(window) }"
IMU_INPUT = TensorInput((TensorSpec("window", "float32", ("t",)),))


def models(path: Path, precision: str = "fp32") -> dict[str, StageModel]:
    with open_bundle(path) as bundle:
        return {model.stage.name: model for model in stage_models(bundle, precision)}


def rewrite(path: Path, **changes: Any) -> Manifest:
    manifest = Manifest.loads((path / "manifest.json").read_bytes())
    return seal(path, replace(manifest, **changes))


def test_a_variant_is_told_with_its_arithmetic(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "c.mmedge", form="folder")
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
    stages = tuple(replace(stage, files={**stage.files, "half": stage.files["fp32"]}) for stage in manifest.stages)
    rewrite(path, stages=stages, variants={**manifest.variants, "half": Variant(True, 1e-2, {}, compute="bf16")})
    for precision, compute in (("fp32", "fp32"), ("half", "bf16")):
        found = models(path, precision)
        assert list(found) == list(COLOR_STAGES)
        assert {(model.precision, model.compute) for model in found.values()} == {(precision, compute)}


def test_the_hash_is_of_graph_and_weights(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "c.mmedge", external=True, form="folder")
    before = {name: model.sha256 for name, model in models(path).items()}
    assert len(set(before.values())) == len(before)
    assert before == {name: model.sha256 for name, model in models(path).items()}
    assert all(len(digest) == 64 for digest in before.values())

    weights = path / "stages" / "text.bin"
    weights.write_bytes(weights.read_bytes()[::-1])
    rewrite(path)
    # Which of the weight files a graph reads is known to the engine alone.
    assert all(before[name] != model.sha256 for name, model in models(path).items())

    graph = path / "stages" / "image.onnx"
    between = {name: model.sha256 for name, model in models(path).items()}
    graph.write_bytes(graph.read_bytes() + b"\0")
    rewrite(path)
    changed = [name for name, model in models(path).items() if model.sha256 != between[name]]
    assert changed == ["image"]


def test_ranges_of_prompts_tokens_and_windows(tmp_path: Path) -> None:
    inputs = {"image": IMAGE_INPUT, "text": replace(TEXT_INPUT, max_length=40), "imu": IMU_INPUT}
    path = write_bundle(
        tmp_path / "t.mmedge",
        {**COLOR_STAGES, "imu": IMU_STAGE},
        inputs=inputs,
        outputs=("logits", "total"),
        task=Raw(),
        form="folder",
    )
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
    assert axis_ranges(manifest)["t"] == AxisRange(1, 1, 4)
    stages = tuple(replace(stage, cost=replace(stage.cost, at={"t": 25, "n": 3})) for stage in manifest.stages)
    expected = {"n": AxisRange(1, 8, 128), "l": AxisRange(1, 16, 40), "t": AxisRange(1, 25, 100)}
    assert axis_ranges(rewrite(path, stages=stages)) == expected
    assert models(path)["imu"].ranges == expected


def test_short_prompts_bound_what_is_usual(tmp_path: Path) -> None:
    with open_bundle(write_bundle(tmp_path / "c.mmedge")) as bundle:
        assert axis_ranges(bundle.manifest) == {"n": AxisRange(1, 8, 128), "l": AxisRange(1, 6, 6)}


def test_fixed_axes_have_no_range(tmp_path: Path) -> None:
    spec = TensorSpec("input_ids", "int64", (2, 6))
    fixed = replace(TEXT_INPUT, ids=spec, mask=replace(spec, name="attention_mask"))
    with open_bundle(write_bundle(tmp_path / "c.mmedge", inputs={"image": IMAGE_INPUT, "text": fixed})) as bundle:
        assert axis_ranges(bundle.manifest) == {}


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    path = write_bundle(tmp_path / "c.mmedge", form="folder")
    (path / "plans").mkdir()
    (path / "plans" / "image.plan").write_bytes(b"built")
    manifest = rewrite(path)
    graph = manifest.files["stages/image.onnx"].sha256
    rewrite(path, plans=(Plan("image", "fp32", "tensorrt_rtx", "1.7", "sm_89", graph, "plans/image.plan"),))
    return path


def test_a_plan_is_found_by_what_it_was_built_for(planned: Path) -> None:
    with open_bundle(planned) as bundle:
        found = {model.stage.name: model for model in stage_models(bundle, "fp32")}
        plan = found["image"].plan("tensorrt_rtx", "1.7", "sm_89")
        assert plan is not None
        assert bytes(plan) == b"built"
        for other in (("tensorrt", "1.7", "sm_89"), ("tensorrt_rtx", "1.8", "sm_89"), ("tensorrt_rtx", "1.7", "sm_86")):
            assert found["image"].plan(*other) is None
        assert found["text"].plan("tensorrt_rtx", "1.7", "sm_89") is None


def test_a_plan_of_another_graph_is_not_used(planned: Path) -> None:
    graph = planned / "stages" / "image.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    rewrite(planned)
    assert models(planned)["image"].plan("tensorrt_rtx", "1.7", "sm_89") is None


def test_multiples_of_an_axis_have_multiples_of_its_range(tmp_path: Path) -> None:
    words = """
    text (int64[n, l] input_ids, int64[n, l] attention_mask) => (int64[k, n] heads) {
      turned = Transpose<perm = [1, 0]>(input_ids)
      heads = Concat<axis = 0>(turned, turned, turned)
    }
    """
    stages = {"text": words}
    path = write_bundle(tmp_path / "m.mmedge", stages, inputs={"text": TEXT_INPUT}, outputs=("heads",), task=Raw())
    with open_bundle(path) as bundle:
        (stage,) = bundle.manifest.stages
        tripled = (replace(stage.outputs[0], shape=("3*l", "n")),)
        manifest = replace(bundle.manifest, stages=(replace(stage, outputs=tripled),), outputs=tripled)
    ranges = axis_ranges(manifest)
    one = ranges["l"]
    assert ranges["3*l"] == AxisRange(3 * one.least, 3 * one.usual, 3 * one.most)
