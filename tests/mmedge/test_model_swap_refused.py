"""Bundles that cannot take over: the old one goes on, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import COLOR_STAGES, IMAGE_INPUT, TEXT_INPUT, color_goldens, frame_of, write_bundle
from support.swapping import IMU, IMU_STAGE, full_bundle, half_bundle, half_goldens, scores, with_imu

import mmedge
from mmedge.bundle import Golden, Raw, TensorInput, TensorSpec
from mmedge.errors import BundleError, EngineError, FrameInputError, TensorInputError, TextInputError
from mmedge.loaded import Loaded
from mmedge.model import Model


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_bundle(tmp_path_factory.mktemp("full") / "full.mmedge")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return half_bundle(tmp_path_factory.mktemp("half") / "half.mmedge")


@pytest.fixture
def model(full: Path) -> Iterator[Model]:
    with mmedge.load(full) as loaded:
        yield loaded


def refused(tmp_path: Path, name: str) -> Path:
    """A bundle that cannot take over."""
    out = tmp_path / "refused.mmedge"
    if name == "missing":
        return out
    if name == "no bundle":
        out.write_bytes(b"PK")
    elif name == "other goldens":
        write_bundle(out, goldens=half_goldens())
    elif name == "no goldens":
        write_bundle(out, goldens=(), stages=dict(COLOR_STAGES))
    elif name == "wrong graph":
        broken = COLOR_STAGES["image"].replace(
            "image_vec) {", "image_vec) <float[1,3,9,9] more = {" + ",".join(["1"] * 243) + "}> {"
        )
        broken = broken.replace("GlobalAveragePool(pixels)", "GlobalAveragePool(sum)").replace(
            "pooled =", "sum = Add(pixels, more)\n  pooled ="
        )
        write_bundle(out, {**COLOR_STAGES, "image": broken}, goldens=color_goldens())
    elif name == "no text":
        vec = color_goldens()[0]
        golden = Golden(
            {"pixels": vec.inputs["pixels"]}, {"image_vec": np.array([[1, 0, 0]], np.float32)}, vec.frame, ()
        )
        stages = {"image": COLOR_STAGES["image"]}
        write_bundle(out, stages, inputs={"image": IMAGE_INPUT}, outputs=("image_vec",), task=Raw(), goldens=[golden])
    elif name == "no frames":
        window = np.ones(3, np.float32)
        golden = Golden({"window": window}, {"total": np.float32(3.0)}, None, ())
        write_bundle(out, {"imu": IMU_STAGE}, inputs={"imu": IMU}, outputs=("total",), task=Raw(), goldens=[golden])
    elif name == "another modality":
        with_imu(out)
    elif name == "two prompts":
        fixed = {**COLOR_STAGES, "text": COLOR_STAGES["text"].replace("[n, l]", "[2, l]").replace("[n, 3]", "[2, 3]")}
        fixed["image+text"] = fixed["image+text"].replace("[n, 3]", "[2, 3]").replace("[1, n]", "[1, 2]")
        text = type(TEXT_INPUT)(**{
            **vars(TEXT_INPUT), "ids": TensorSpec("input_ids", "int64", (2, "l")),
            "mask": TensorSpec("attention_mask", "int64", (2, "l")),
        })  # fmt: skip
        write_bundle(out, fixed, inputs={"image": IMAGE_INPUT, "text": text}, goldens=color_goldens()[:1])
    return out


REFUSED = {
    "missing": (BundleError, "no bundle at"),
    "no bundle": (BundleError, "truncated"),
    "other goldens": (BundleError, "does not give its goldens here: output logits differs by"),
    "no goldens": (BundleError, "carries no goldens"),
    "wrong graph": (EngineError, "refused stage 'image'"),
    "no text": (TextInputError, "takes no text"),
    "no frames": (FrameInputError, "takes frames and tiny no frames"),
    "another modality": (TensorInputError, "cannot go on where tiny is: the model needs 'imu'"),
    "two prompts": (TextInputError, "exactly 2 prompts, got 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bundle_that_cannot_take_over_changes_nothing(
    name: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, words = REFUSED[name]
    model.set_text(["red"])
    before, opened = model._in_use.state, []
    made = mmedge.bundle.reader.Bundle.__init__

    def init(self: Any, *arguments: Any) -> None:
        made(self, *arguments)
        opened.append(self)

    monkeypatch.setattr(mmedge.bundle.reader.Bundle, "__init__", init)
    with pytest.raises(error, match=words):
        model.swap(refused(tmp_path, name))
    assert model._in_use.state is before
    assert scores(model(frame_of("red"))) == {"red": 8.0}
    assert model.prompt_version == 1
    for bundle in opened:
        with pytest.raises(BundleError, match="is closed"):
            bundle.read("tokenizer.json")


@pytest.mark.parametrize("shape", [("s",), None], ids=["another contract", "not there"])
def test_tensors_that_the_new_bundle_does_not_take(shape: tuple[str] | None, full: Path, tmp_path: Path) -> None:
    other = TensorInput((TensorSpec("window", "float32", shape),)) if shape else None
    stage = IMU_STAGE.replace("[t]", "[s]")
    new = with_imu(tmp_path / "other.mmedge", stage, other) if other else full
    with mmedge.load(with_imu(tmp_path / "once.mmedge")) as model:
        model.set_text(["red"])
        model.update("imu", window=np.ones(3, np.float32))
        with pytest.raises(TensorInputError, match="tensors of 'imu' are set, and tiny does not take them"):
            model.swap(new)
        result: Any = model(frame_of("red"))
        assert result.outputs["total"].item() == 3.0


def test_a_model_that_is_closed_meanwhile(model: Model, half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Loaded] = []
    verify = Loaded.verify

    def closing(self: Loaded) -> Any:
        opened.append(self)
        model.close()
        return verify(self)

    monkeypatch.setattr(Loaded, "verify", closing)
    with pytest.raises(EngineError, match="was closed"):
        model.swap(half)
    with pytest.raises(BundleError, match="is closed"):
        opened[0].bundle.read("tokenizer.json")
    with pytest.raises(EngineError, match="was closed"):
        model.swap(half)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the files that a process has open")
def test_nothing_of_old_bundles_is_left(full: Path, half: Path, tmp_path: Path) -> None:
    bad = refused(tmp_path, "other goldens")
    with mmedge.load(full) as model:
        model.set_text(["red"])
        gone = []

        def swap(path: Path) -> None:
            gone.append(weakref.ref(model._in_use.state.loaded))
            gone.append(weakref.ref(model._in_use.state.loaded.program))
            model.swap(path)
            model(frame_of("red"))
            with pytest.raises(BundleError):
                model.swap(bad)

        def left() -> tuple[int, int, int]:
            gc.collect()
            mapped = Path("/proc/self/maps").read_text().count(".mmedge")
            return len(os.listdir("/proc/self/fd")), threading.active_count(), mapped

        for path in (half, full):
            swap(path)
        before = left()
        for path in (half, full) * 4:
            swap(path)
        assert left() == before
        assert [ref() for ref in gone if ref() is not None] == []
