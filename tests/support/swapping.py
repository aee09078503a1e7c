"""Bundles for the tests of `Model.swap`: alike, and told apart by their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmedge.bundle import Classify, Golden, Raw, TensorInput, TensorSpec
from mmedge.results import Classification
from support.bundles import COLOR_STAGES, IMAGE_INPUT, TEXT, TEXT_INPUT, color_goldens, write_bundle

HALF_TEXT = TEXT.replace("0,0,0, 8,0,0, 0,8,0, 0,0,8", "0,0,0, 4,0,0, 0,4,0, 0,0,4")
"""The colour model with half the logits, by which a result shows which bundle it came from."""

IMU = TensorInput((TensorSpec("window", "float32", ("t",)),))
IMU_STAGE = "imu (float[t] window) => (float total) { total = ReduceSum<keepdims = 0>(window) }"
TWICE_STAGE = """
imu (float[t] window) => (float total) {
  sum = ReduceSum<keepdims = 0>(window)
  total = Add(sum, sum)
}
"""


def half_goldens() -> list[Golden]:
    goldens = []
    for golden in color_goldens():
        full = golden.outputs["logits"]
        goldens.append(
            Golden(golden.inputs, {"logits": np.where(full >= 8, full - 4, full)}, golden.frame, golden.prompts)
        )
    return goldens


def full_bundle(out: Path) -> Path:
    """The colour model; its scores are its logits, 8 for the right colour."""
    return write_bundle(out, external=True, task=Classify("logits", "none"))


def half_bundle(out: Path) -> Path:
    """The same with 4 for the right colour."""
    stages = {**COLOR_STAGES, "text": HALF_TEXT}
    return write_bundle(out, stages, goldens=half_goldens(), external=True, task=Classify("logits", "none"))


def with_imu(out: Path, stage: str = IMU_STAGE, contract: TensorInput = IMU, factor: float = 1.0) -> Path:
    """The colour model with a sensor, whose sum is an output."""
    window = np.arange(4, dtype=np.float32)
    total = np.asarray(factor * window.sum(), np.float32)
    goldens = [
        Golden({**g.inputs, "window": window}, {**g.outputs, "total": total}, g.frame, g.prompts)
        for g in color_goldens()
    ]
    inputs = {"image": IMAGE_INPUT, "text": TEXT_INPUT, "imu": contract}
    stages = {**COLOR_STAGES, "imu": stage}
    return write_bundle(out, stages, inputs=inputs, outputs=("logits", "total"), task=Raw(), goldens=goldens)


def scores(result: Any) -> dict[str, float]:
    assert isinstance(result, Classification)
    return dict(zip(result.labels, result.scores.tolist(), strict=True))
