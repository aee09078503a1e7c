"""A bundle is exported again: the same answers, the same contracts, other precisions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.bundles import write_bundle
from support.towers import export_tower

import mmedge
import mmedge_export as mx
from mmedge.bundle import Bundle, open_bundle, seal
from mmedge.errors import ExportError
from mmedge.loading import built_in_bundle
from mmedge_export.bundle_source import BundleSource
from mmedge_export.command import export_model


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = mx.Options(
        name="blocks",
        version="7",
        license="MIT",
        notes="Finds blocks.\n\n**Limits.** Many.",
        accuracy={"F1 (10 prompts)": "0.93"},
        merge_below=0.0,
    )
    return export_tower(tmp_path_factory.mktemp("old") / "old.mmedge", "fp32", options).path


def scores(path: Path) -> list[np.ndarray]:
    found = []
    random = np.random.default_rng(2)
    with mmedge.load(path, precision="fp32", engine="onnxruntime") as model:
        for prompts in (["red cube", "the blue ball"], ["a ball"]):
            model.set_text(prompts)
            found.append(model(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).scores)
    return found


def test_answers_and_everything_that_is_said_of_it_stay(old: Path, tmp_path: Path) -> None:
    report = mx.export_bundle(old, out=tmp_path / "new.mmedge", precision="fp32")
    assert report.verification.passed
    assert report.warnings == ()
    with open_bundle(old) as a, open_bundle(report.path) as b:
        before, after = a.manifest, b.manifest
        kept = ("name", "version", "license", "task", "inputs", "source", "outputs")
        assert [getattr(before, name) for name in kept] == [getattr(after, name) for name in kept]
        assert bytes(a.read("tokenizer.json")) == bytes(b.read("tokenizer.json"))
        assert bytes(a.read("goldens.npz")) == bytes(b.read("goldens.npz"))
        card = bytes(b.read("MODEL_CARD.md")).decode()
    assert "Finds blocks.\n\n**Limits.** Many." in card
    assert "| F1 (10 prompts) | 0.93 |" in card
    for ours, theirs in zip(scores(report.path), scores(old), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_new_precision_comes_without_the_source(old: Path, tmp_path: Path) -> None:
    samples = [mx.Sample(np.full((20, 30, 3), level, np.uint8), ("red", "a cube")) for level in (0, 128, 255)]
    options = mx.Options(calibration=samples, license="Apache-2.0", notes="Other notes.")
    report = mx.export_bundle(old, out=tmp_path / "new.mmedge", precision="int8", options=options)
    assert report.manifest.variants["int8"].verified
    assert report.manifest.license == "Apache-2.0"
    with open_bundle(report.path) as bundle:
        card = bytes(bundle.read("MODEL_CARD.md")).decode()
    assert "Other notes." in card
    assert "Finds blocks." not in card


def test_a_bundle_with_forms_gets_them_again(tmp_path: Path) -> None:
    first = mx.export_bundle(built_in_bundle(), out=tmp_path / "a.mmedge", precision="fp32")
    second = mx.export_bundle(first.path, out=tmp_path / "b.mmedge", precision="fp32")
    assert len(first.manifest.forms) > 1
    assert second.manifest.forms == first.manifest.forms
    told = [
        [(stage.label, stage.form, stage.cost.flops) for stage in report.manifest.stages] for report in (first, second)
    ]
    assert told[0] == told[1]
    assert [(s.form, s.why) for s in second.manifest.sites] == [(s.form, s.why) for s in first.manifest.sites]
    assert second.verification.passed


def test_a_bundle_may_take_its_own_place(old: Path, tmp_path: Path) -> None:
    place = tmp_path / "b.mmedge"
    place.write_bytes(old.read_bytes())
    first = export_model(str(place), place, precision="fp32")
    again = export_model(str(place), place, precision="fp32", options=mx.Options(form="folder"))
    assert place.is_dir()
    assert export_model(str(place), place, precision="fp32").verification.passed
    assert [len(report.manifest.stages) for report in (first, again)] == [len(first.manifest.stages)] * 2


def test_the_stitched_graph_computes_each_node_once(old: Path, tmp_path: Path) -> None:
    with open_bundle(old) as bundle:
        source = BundleSource(bundle)
        import onnx

        graph = onnx.load(source.to_onnx(tmp_path / "s.onnx", (), ())).graph
        made = [name for node in graph.node for name in node.output]
        assert len(made) == len(set(made))
        assert [value.name for value in graph.output] == ["logits", "seen"]
        golden = source.goldens[1]
        np.testing.assert_array_equal(source.run(golden.inputs)["logits"], golden.outputs["logits"])
        with pytest.raises(ExportError, match="goldens alone"):
            source.run({**golden.inputs, "ids": golden.inputs["ids"] + 1})


def test_a_bundle_without_goldens_or_fp32_is_refused(tmp_path: Path) -> None:
    bare = write_bundle(tmp_path / "bare", goldens=())
    with pytest.raises(ExportError, match="no goldens"):
        mx.export_bundle(bare, out=tmp_path / "x.mmedge")
    folder = write_bundle(tmp_path / "half", form="folder")
    with open_bundle(folder) as bundle:
        _only_int8(bundle, folder)
    with pytest.raises(ExportError, match="no variant fp32"):
        mx.export_bundle(folder, out=tmp_path / "x.mmedge")
    assert not (tmp_path / "x.mmedge").exists()


def _only_int8(bundle: Bundle, folder: Path) -> None:
    manifest = bundle.manifest
    stages = tuple(replace(stage, files={"int8": stage.files["fp32"]}) for stage in manifest.stages)
    seal(folder, replace(manifest, stages=stages, variants={"int8": manifest.variants["fp32"]}))
