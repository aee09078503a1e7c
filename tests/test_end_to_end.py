"""The main job on real material: bundles over real clips and photos, through the command that users type."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.clip_folder import write_clip_folder

import mmedge
import mmedge_export as mx
from mmedge.loading import built_in_bundle
from mmedge_export.training.evaluation import evaluate
from mmedge_export.training.make_model import LIMIT_BYTES, bundle_predictor
from mmedge_kernels.frame import native_status

CLIPS = {
    "bikes.mp4": 250,
    "bottle-detection.mp4": 1189,
    "carphone_pristine.mp4": 120,
    "one-by-one-person-detection.mp4": 1394,
}


@pytest.fixture(scope="module")
def clip_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    model, inputs, task = mx.from_pretrained(write_clip_folder(folder / "hf"))
    return mx.export(model, inputs=inputs, task=task, out=folder / "clip.mmedge").path


def run(*arguments: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "mmedge", "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("bundle", ["built-in", "clip"])
def test_every_frame_of_a_real_clip_is_answered_once(bundle: str, clip: str, clip_bundle: Path, data_dir: Path) -> None:
    which = [str(clip_bundle)] if bundle == "clip" else []
    results = run(*which, "--source", str(data_dir / "video" / clip), "--text", "the red cube", "--text", "a ball")
    assert [result["frame"] for result in results] == list(range(CLIPS[clip]))
    times = [str(result["captured_at"]) for result in results]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    assert all(result["dropped"] == 0 and result["prompt_version"] == 1 for result in results)


@pytest.mark.parametrize("bundle", ["built-in", "clip"])
def test_every_photo_is_answered(bundle: str, clip_bundle: Path, data_dir: Path) -> None:
    which = [str(clip_bundle)] if bundle == "clip" else []
    results = run(*which, "--source", str(data_dir / "photos"), "--text", "a cat", "--text", "food")
    photos = sorted(p.name for p in (data_dir / "photos").iterdir())
    assert [Path(str(result["source"])).name for result in results] == photos


def test_the_built_in_model_finds_pairs_that_it_never_saw() -> None:
    """A part of the evaluation in the model card, on the bundle that ships, through the device runtime."""
    with mmedge.load(threshold=0.0) as model:
        figures = evaluate(bundle_predictor(model), seed=1000, scenes=60)
    assert figures["main_strict"]["presence_f1"] >= 0.90
    assert figures["main"]["mean_iou_of_correct"] >= 0.60
    assert figures["unknown"]["false_alarm_rate"] <= 0.02


def test_the_built_in_bundle_is_verified_and_small() -> None:
    assert built_in_bundle().stat().st_size <= LIMIT_BYTES
    verification = mmedge.verify()
    assert verification.passed
    assert all(p.tokens_equal and p.pixels_max_abs == 0.0 for p in verification.preparation)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here: the numpy form is what is installed")
def test_the_native_frame_library_was_built() -> None:
    available, detail = native_status()
    assert available, detail
