"""Engines in bundles: every stage, checked first, put in at once or not at all, and found again by the runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.bundles import COLOR_STAGES, write_bundle

from mmedge.bundle import open_bundle, publish, seal, staging
from mmedge.bundle.writer import file_entries
from mmedge.engines.tensorrt import prebuild as module
from mmedge.engines.tensorrt.library import Library
from mmedge.engines.tensorrt.prebuild import prebuild
from mmedge.engines.tensorrt.progress import Report
from mmedge.errors import BundleError, BundleWriteError, EngineError, InputError
from mmedge.loading import built_in_bundle, stage_models

pytestmark = pytest.mark.usefixtures("rtx")

ASYMMETRIC = """
image (float[1, 3, 8, 8] pixels) => (float[1, 3] image_vec) <float s = {0.1}, uint8 z = {3}> {
  pooled = GlobalAveragePool(pixels)
  q = QuantizeLinear(pooled, s, z)
  d = DequantizeLinear(q, s, z)
  again, s2, z2 = DynamicQuantizeLinear(d)
  back = DequantizeLinear(again, s2, z2)
  image_vec = Flatten(back)
}
"""


@contextmanager
def quiet(what: str) -> Iterator[Report]:
    yield lambda fraction, phase: None


def build(path: Path, out: Path | None = None, **given: Any) -> Any:
    return prebuild(path, out, show=quiet, **given)


def _own(stage: str) -> dict[str, str]:
    return {"fp16": "stages/image.fp16.onnx"} if stage == "image" else {}


def plans(path: Path) -> dict[tuple[str, str, str], bytes]:
    with open_bundle(path) as opened:
        return {
            (plan.stage, plan.variant, plan.architecture): bytes(opened.read(plan.file))
            for plan in opened.manifest.plans
        }


def test_every_stage_of_the_built_in_model(rtx: Library, tmp_path: Path) -> None:
    out = tmp_path / "t.mmedge"
    made = build(built_in_bundle(), out)
    with open_bundle(built_in_bundle()) as before, open_bundle(out) as after:
        stages = [stage.name for stage in before.manifest.stages]
        assert [(row.stage, row.variant) for row in made.rows] == [(name, "fp32") for name in stages]
        kept = {name: entry for name, entry in after.manifest.files.items() if not name.startswith("plans/")}
        assert kept == before.manifest.files
        for model in stage_models(after, "fp32"):
            for architecture in ("sm_80", "sm_86", "sm_89", "sm_120"):
                plan = model.plan("tensorrt_rtx", rtx.version, architecture)
                assert plan is not None
                assert bytes(plan[:4]) == b"vtrt"
            # Turing has no float32 products in this library: left out, and said.
            assert model.plan("tensorrt_rtx", rtx.version, "sm_75") is None
            assert model.plan("tensorrt_rtx", "1.0", "sm_89") is None
    assert all("FP32 GEMM is not supported" in row.lacking["sm_75"] for row in made.rows)


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_a_bundle_may_be_replaced_by_itself_with_engines(tmp_path: Path, form: str) -> None:
    path = write_bundle(tmp_path / "tiny.mmedge", form=form)
    made = build(path, architectures=["sm_89"])
    assert made.path == path
    assert path.is_dir() == (form == "folder")
    first = plans(path)
    assert set(first) == {(name, "fp32", "sm_89") for name in COLOR_STAGES}
    build(path, architectures=["sm_86"])
    both = plans(path)
    assert len(both) == 6
    assert {key: plan for key, plan in both.items() if key[2] == "sm_89"} == first
    # Built anew they take the place of those that were there, whose files go.
    build(path, architectures=["sm_86", "sm_89"])
    with open_bundle(path) as opened:
        assert len(opened.manifest.plans) == 6
        assert len([name for name in opened.manifest.files if name.endswith(".plan")]) == 3
    # The same graph gives the same engine.
    build(path, architectures=["sm_89"])
    assert {key: plan for key, plan in plans(path).items() if key[2] == "sm_89"} == first


def test_variants_that_share_a_graph_share_its_plan(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "tiny.mmedge")
    with open_bundle(path) as opened, staging(path) as folder:
        module._copy(opened, folder)
        image = folder / "stages/image.fp16.onnx"
        # Another file with the same meaning, as an exporter would write for the one stage that differs.
        image.write_bytes(bytes(opened.read("stages/image.onnx")))
        manifest = opened.manifest
        fp32 = manifest.variants["fp32"]
        rounded, cpu = replace(fp32, compute="bf16"), replace(fp32, engines=("openvino",))
        variants = {"fp32": fp32, "fp16": fp32, "rounded": rounded, "cpu": cpu}
        stages = tuple(
            replace(stage, files=dict.fromkeys(variants, stage.files["fp32"]) | _own(stage.name))
            for stage in manifest.stages
        )
        seal(folder, replace(manifest, stages=stages, variants=variants, files=file_entries(folder)))
        publish(folder, path)
    made = build(path, architectures=["sm_89"])
    assert [(row.stage, row.variant, row.seconds > 0) for row in made.rows] == [
        ("image", "fp32", True), ("text", "fp32", True), ("image+text", "fp32", True),
        ("image", "fp16", True), ("text", "fp16", False), ("image+text", "fp16", False),
    ]  # fmt: skip
    with open_bundle(path) as opened:
        assert len({plan.file for plan in opened.manifest.plans}) == 4
    for name in ("rounded", "fp8"):
        with pytest.raises(BundleError, match=f"has no variant '{name}' that says its precision in its graph"):
            build(path, precisions=[name])


def test_all_refused_nodes_are_named_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {**COLOR_STAGES, "image": ASYMMETRIC}
    path = write_bundle(tmp_path / "tiny.mmedge", stages)
    before = hashlib.sha256(path.read_bytes()).digest()
    monkeypatch.setattr(module, "build", None)
    with pytest.raises(EngineError) as caught:
        build(path)
    message = str(caught.value)
    assert "nothing was built" in message
    assert "image.onnx: again (DynamicQuantizeLinear)" in message
    assert "QuantizeLinear): " in message
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_an_architecture_that_is_named_must_work(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "tiny.mmedge")
    out = tmp_path / "out.mmedge"
    with pytest.raises(EngineError, match="FP32 GEMM is not supported"):
        build(path, out, architectures=["sm_75", "sm_89"])
    with pytest.raises(EngineError, match="does not build for sm_87; it builds for sm_75"):
        build(path, out, architectures=["sm_87"])
    assert list(tmp_path.glob("*out*")) == []


def test_an_interruption_leaves_what_was_there(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "tiny.mmedge")
    before = path.read_bytes()

    @contextmanager
    def interrupted(what: str) -> Iterator[Report]:
        if what.startswith("image+text"):
            raise KeyboardInterrupt
        yield lambda fraction, phase: None

    with pytest.raises(KeyboardInterrupt):
        prebuild(path, show=interrupted)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.mmedge"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bundle(tmp_path / "tiny.mmedge")
    before = path.read_bytes()
    write = Path.write_bytes

    def full(self: Path, data: Any) -> int:
        if self.suffix == ".plan":
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleWriteError, match="No space left on device; nothing was left behind"):
        build(path, architectures=["sm_89"])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.mmedge"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("jetson-orin-jp6", "such as rtx, got 'jetson-orin-jp6': tensorrt prepares stages on the device"),
        ("cpu", "onnxruntime prepares stages on the device"),
        ("toaster", "toaster"),
    ],
)
def test_targets_that_build_on_the_device(tmp_path: Path, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(write_bundle(tmp_path / "tiny.mmedge"), target=target)
