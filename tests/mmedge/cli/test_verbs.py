"""info, verify, doctor and export."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.bundles import COLOR_STAGES, SEVERAL_IMAGE, SEVERAL_INPUT, TEXT_INPUT, color_goldens, write_bundle
from support.command import Mmedge

from mmedge.cli import checks


def test_info_as_json(mmedge: Mmedge, bundle: Path) -> None:
    done = mmedge("info", bundle, "--json")
    value = json.loads(done.out)
    assert done.code == 0
    assert {stage["name"]: stage["label"] for stage in value["stages"]} == {
        "image": ["image"], "text": ["text"], "image+text": ["image", "text"]
    }  # fmt: skip
    assert value["path"] == str(bundle)
    assert value["bytes"] == sum(entry["size"] for entry in value["files"].values())
    assert value["task"]["kind"] == "classify"
    assert value["batch"] is False


def test_info_says_whether_frames_run_at_once(mmedge: Mmedge, bundle: Path, tmp_path: Path) -> None:
    inputs = {"image": SEVERAL_INPUT, "text": TEXT_INPUT}
    several = write_bundle(tmp_path / "several.mmedge", {**COLOR_STAGES, "image": SEVERAL_IMAGE}, inputs=inputs)
    assert "batch: yes, up to 8 frames at once" in mmedge("info", several).out
    assert "batch: no, frames run one by one" in mmedge("info", bundle).out
    assert json.loads(mmedge("info", several, "--json").out)["batch"] is True


def test_info_for_people(mmedge: Mmedge, bundle: Path) -> None:
    out = mmedge("info", bundle).out
    for words in ("tiny 1", "task classify", "image + text", "pixels float32 [1, 3, 8, 8]", "fp32", "tokenizer.json"):
        assert words in out


def test_info_of_a_bundle_that_talks_to_the_terminal(
    mmedge: Mmedge, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmedge.bundle import Manifest

    original = Manifest.loads
    monkeypatch.setattr(
        Manifest, "loads", staticmethod(lambda text: replace(original(text), version="\x1b[2J[red]1", license="[/]"))
    )
    done = mmedge("info", bundle)
    assert done.code == 0
    assert "\x1b[2J" not in done.out
    assert "[red]1" in done.out


def test_verify_passes(mmedge: Mmedge, bundle: Path) -> None:
    done = mmedge("verify", bundle)
    assert done.code == 0
    assert done.out.startswith("PASS  tiny 1, fp32, 2 samples")
    assert "output logits: relative error" in done.out


def test_verify_fails_with_its_own_exit_code(mmedge: Mmedge, tmp_path: Path) -> None:
    sample = color_goldens()[0]
    wrong = replace(sample, outputs={"logits": np.zeros((1, 2), np.float32)})
    path = write_bundle(tmp_path / "wrong.mmedge", goldens=[wrong])
    done = mmedge("verify", path)
    assert done.code == 1
    assert done.out.startswith("FAIL")
    as_json = mmedge("verify", path, "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["passed"] is False


def by_name(text: str) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(text)["checks"]}


def test_doctor_finds_a_working_runtime(mmedge: Mmedge, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmedge.loading.built_in_bundle", lambda: bundle)
    done = mmedge("doctor", "--json")
    found = by_name(done.out)
    assert done.code == 0, done.out
    for name in ("python", "machine", "numpy", "cv2", "onnxruntime", "mmedge", "native frame library", "disk"):
        assert found[name]["state"] in ("ok", "warning")
    assert found["built-in model"] == {
        "name": "built-in model", "state": "ok", "found": "tiny 1, fp32: PASS on 2 samples", "advice": ""
    }  # fmt: skip
    for name in ("torch", "onnx", "transformers", "openvino"):
        there = importlib.util.find_spec(name) is not None
        assert found[name]["state"] == ("ok" if there else "absent")
        assert there or found[name]["advice"]


def test_doctor_for_people(mmedge: Mmedge, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmedge.loading.built_in_bundle", lambda: bundle)
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    out = mmedge("doctor").out
    assert 'pip install "mmedge[export]"' in out
    assert "PASS on 2 samples" in out


def test_doctor_says_when_the_runtime_is_broken(
    mmedge: Mmedge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmedge.loading.built_in_bundle", lambda: tmp_path / "none.mmedge")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    done = mmedge("doctor", "--json")
    found = by_name(done.out)
    assert done.code == 1
    assert json.loads(done.out)["ok"] is False
    assert found["tokenizers"]["state"] == "broken"
    assert found["built-in model"]["state"] == "broken"


def test_doctor_lists_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    states = []
    for cameras, allowed in (([], True), (["/dev/video0"], True), (["/dev/video0"], False)):
        monkeypatch.setattr("mmedge.sources.list_cameras", lambda found=cameras: found)
        monkeypatch.setattr(checks.os, "access", lambda path, mode, answer=allowed: answer)  # type: ignore[attr-defined]
        states.append(checks._cameras().state)
    assert states == ["absent", "ok", "warning"]


def test_export_needs_its_libraries(mmedge: Mmedge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmedge_export.command", None)
    done = mmedge("export", "model.onnx", "--out", tmp_path / "out.mmedge")
    assert done.code == 6
    assert 'pip install "mmedge[export]"' in done.err


TWO_MODALITIES = """
import torch
import mmedge_export as mx


class Sum(torch.nn.Module):
    def forward(self, left, right):
        return torch.tanh(left) + torch.exp(right)


def make():
    return Sum().eval(), {name: mx.Tensor((1, 5), name=name) for name in ("left", "right")}, mx.Raw()
"""


def test_export_of_a_function_then_info_and_verify(
    mmedge: Mmedge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    (tmp_path / "two.py").write_text(TWO_MODALITIES)
    monkeypatch.chdir(tmp_path)
    done = mmedge("export", "two:make", "--out", "two.mmedge", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["verification"]["passed"] is True
    labels = [stage["label"] for stage in json.loads(mmedge("info", "two.mmedge", "--json").out)["stages"]]
    assert sorted(labels) == sorted(stage["label"] for stage in report["stages"])
    assert mmedge("verify", "two.mmedge").code == 0


def test_export_of_what_is_no_model(mmedge: Mmedge, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    done = mmedge("export", tmp_path / "nothing", "--out", tmp_path / "out.mmedge")
    assert done.code == 7
    assert "error: " in done.err
    assert not (tmp_path / "out.mmedge").exists()
