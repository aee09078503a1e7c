"""A CLIP from its Hugging Face folder to TensorRT-RTX engines of all its stages, without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.clip_folder import write_clip_folder

import mmedge_export as mx
from mmedge.bundle import open_bundle
from mmedge.engines.tensorrt import refusals
from mmedge.engines.tensorrt.library import Library
from mmedge.engines.tensorrt.prebuild import prebuild
from mmedge.loading import stage_models


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, inputs, task = mx.from_pretrained(write_clip_folder(tmp_path_factory.mktemp("folder")))
    out = tmp_path_factory.mktemp("bundle") / "clip.mmedge"
    mx.export(model, inputs=inputs, task=task, out=out, options=mx.Options(progress=False))
    return out


def test_the_parser_takes_every_stage(rtx: Library, bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        for model in stage_models(opened, "fp32"):
            assert refusals(model.path()) == ()


def test_every_stage_is_built_for_two_architectures(rtx: Library, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "built.mmedge"
    made = prebuild(bundle, out, architectures=["sm_86", "sm_120"], precisions=["fp32"])
    with open_bundle(out) as opened:
        models = stage_models(opened, "fp32")
        assert len(models) >= 3
        assert [row.stage for row in made.rows] == [model.stage.name for model in models]
        for model in models:
            plans = [model.plan("tensorrt_rtx", rtx.version, name) for name in ("sm_86", "sm_120")]
            assert plans[0] is not None
            assert plans[0] == plans[1]
            assert bytes(plans[0][:4]) == b"vtrt"
