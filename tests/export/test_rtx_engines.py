"""Engines of TensorRT-RTX for the built-in model, built here without a GPU, from variants that the exporter made."""

from __future__ import annotations

from pathlib import Path

import pytest

import mmedge_export as mx
from mmedge.bundle import open_bundle
from mmedge.loading import built_in_bundle
from mmedge.targets import TARGETS

pytest.importorskip("tensorrt_rtx_bindings")


def test_every_architecture_of_the_target_gets_engines_for_the_frame(tmp_path: Path) -> None:
    """sm_75 has no float32 products in this library: there the half-precision variant runs the frame's stages."""
    from mmedge.engines.tensorrt.prebuild import prebuild

    report = mx.export_bundle(built_in_bundle(), out=tmp_path / "half.mmedge", precision="fp16")
    made = prebuild(report.path, tmp_path / "rtx.mmedge", target="rtx")
    with open_bundle(made.path) as bundle:
        plans = bundle.manifest.plans
        frame = {stage.name for stage in bundle.manifest.stages if "image" in stage.label}
    every = {f"sm_{architecture}" for architecture in TARGETS["rtx"].architectures}
    assert len(frame) == 3
    for stage in frame:
        assert {p.architecture for p in plans if (p.stage, p.variant) == (stage, "fp16")} == every
        assert {p.architecture for p in plans if (p.stage, p.variant) == (stage, "fp32")} == every - {"sm_75"}
    assert {p.stage for p in plans} > frame, "the prompt's stages have engines too"
