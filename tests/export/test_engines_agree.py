"""Exported bundles give their goldens on OpenVINO as they do on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.clip_folder import write_clip_folder

import mmedge
import mmedge_export as mx

pytest.importorskip("openvino")


def test_clip(tmp_path: Path) -> None:
    model, inputs, task = mx.from_pretrained(write_clip_folder(tmp_path / "clip"))
    report = mx.export(model, inputs=inputs, task=task, out=tmp_path / "clip.mmedge", precision="int8")
    assert set(report.manifest.variants) == {"fp32", "int8"}
    for precision in report.manifest.variants:
        found = mmedge.verify(report.path, engine="openvino:cpu", precision=precision)
        assert found.passed, (precision, found.reasons)
        assert all(place.startswith("openvino") and place.endswith("on cpu") for place in found.engines.values())
