"""How old a result is: of arrays, of frames with times of their own, and of tensors that were set long ago."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import COLOR_STAGES, IMAGE_INPUT, TEXT_INPUT, frame_of, write_bundle
from support.gate import PATIENCE_S, Gate

import mmedge
from mmedge.bundle import Raw, TensorInput, TensorSpec
from mmedge.errors import FrameInputError
from mmedge.sources.frame import Frame

AWARE = datetime(2026, 5, 6, tzinfo=timezone(timedelta(hours=2)))
SENSORS = {name: TensorInput((TensorSpec(name, "float32", (f"{name}_n",)),)) for name in ("imu", "radar", "spare")}
IMU = "imu (float[imu_n] imu) => (float total) { total = ReduceSum<keepdims = 0>(imu) }"
BOTH = """
both (float total, float[radar_n] radar) => (float sum) {
  more = ReduceSum<keepdims = 0>(radar)
  sum = Add(total, more)
}
"""
ONE = np.ones(1, np.float32)


@pytest.fixture(scope="module")
def sensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """imu and radar are needed, spare is not."""
    stages = {"imu": IMU, "imu+radar": BOTH}
    return write_bundle(tmp_path_factory.mktemp("a") / "b", stages, inputs=SENSORS, outputs=("sum",), task=Raw())


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames, prompts and an imu."""
    inputs = {"image": IMAGE_INPUT, "text": TEXT_INPUT, "imu": SENSORS["imu"]}
    stages = {**COLOR_STAGES, "imu": IMU}
    outputs = ("logits", "total")
    return write_bundle(tmp_path_factory.mktemp("s") / "b", stages, inputs=inputs, outputs=outputs, task=Raw())


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("c") / "b")


def test_a_model_without_frames_is_as_old_as_its_oldest_tensors(sensors: Path) -> None:
    with mmedge.load(sensors) as model:
        model.update("spare", spare=ONE)
        first, first_utc = time.monotonic(), datetime.now(timezone.utc)
        model.update("radar", radar=ONE)
        second, second_utc = time.monotonic(), datetime.now(timezone.utc)
        model.update("imu", imu=ONE)
        third = time.monotonic()
        time.sleep(0.1)
        called = time.monotonic()
        result = model()
    assert first <= result.captured <= second
    assert first_utc <= result.captured_at <= second_utc
    assert result.age_ms >= (called - second) * 1e3 >= 100
    assert set(result.input_ages_ms) == {"imu", "radar"}
    assert result.input_ages_ms["radar"] > result.input_ages_ms["imu"] >= (called - third) * 1e3 >= 100
    assert result.age_now_ms() >= result.age_ms
    assert set(result.to_json()["input_ages_ms"]) == {"imu", "radar"}


def test_equal_tensors_that_are_set_again_are_new(sensors: Path) -> None:
    with mmedge.load(sensors) as model:
        for name in ("imu", "radar"):
            model.update(name, **{name: ONE})
        before = time.monotonic()
        for name in ("imu", "radar"):
            model.update(name, **{name: ONE})
        assert model().captured >= before
        assert model.stats()["imu"]["runs"] == 1


def test_the_age_of_tensors_counts_the_work_on_them(sensors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "imu")
    with mmedge.load(sensors) as model, ThreadPoolExecutor(1) as pool:
        updating = pool.submit(model.update, "imu", imu=ONE)
        gate.wait()
        working = time.monotonic()
        gate.open()
        updating.result(PATIENCE_S)
        model.update("radar", radar=ONE)
        assert model().captured <= working


def test_a_frame_keeps_its_age_beside_that_of_the_tensors(steered: Path) -> None:
    with mmedge.load(steered) as model:
        model.set_text(["red"])
        model.update("imu", imu=ONE)
        updated = time.monotonic()
        time.sleep(0.1)
        frame = Frame(frame_of("red"), "0", 4, time.monotonic() - 2.0, AWARE)
        result = model(frame)
        ended = time.monotonic()
    assert (result.captured, result.captured_at) == (frame.captured, AWARE)
    assert 2000 <= result.age_ms <= (ended - frame.captured) * 1e3
    assert set(result.input_ages_ms) == {"imu"}
    assert result.input_ages_ms["imu"] >= 100
    assert result.input_ages_ms["imu"] < result.age_ms
    assert result.captured < updated


def test_prompts_do_not_age(colors: Path) -> None:
    with mmedge.load(colors) as model:
        model.set_text(["red"])
        result = model(frame_of("red"))
    assert result.input_ages_ms == {}
    assert "input_ages_ms" not in result.to_json()


def test_the_age_of_an_array_counts_the_wait_for_the_frame_before(
    colors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mmedge.load(colors) as model, ThreadPoolExecutor(2) as pool:
        model.set_text(["red"])
        gate, calling = Gate(monkeypatch, "image"), threading.Event()

        def call() -> Any:
            calling.set()
            return model(frame_of("red"))

        first = pool.submit(model, frame_of("red"))
        gate.wait()
        second = pool.submit(call)
        assert calling.wait(PATIENCE_S)
        time.sleep(0.1)
        waited = time.monotonic()
        gate.open()
        results = [first.result(PATIENCE_S), second.result(PATIENCE_S)]
    assert [result.frame for result in results] == [0, 1]
    assert results[1].captured < waited
    assert results[1].captured + results[1].age_ms / 1e3 >= waited


@pytest.mark.parametrize(
    ("captured", "moment", "message"),
    [
        pytest.param(float("nan"), AWARE, r"captured must be .*got nan", id="nan"),
        pytest.param(float("-inf"), AWARE, "got -inf", id="infinite"),
        pytest.param(time.time(), AWARE, r"not time\.time\(\)", id="wall-clock"),
        pytest.param(time.monotonic() + 3600, AWARE, "in the future", id="future"),
        pytest.param("now", AWARE, "got 'now'", id="string"),
        pytest.param(None, AWARE, "got None", id="none"),
        pytest.param(True, AWARE, "got True", id="bool"),
        pytest.param(0.0, datetime(2026, 5, 6), "with a time zone", id="naive"),
        pytest.param(0.0, None, "with a time zone, got None", id="no-datetime"),
        pytest.param(0.0, 1.7e9, "with a time zone", id="seconds"),
    ],
)
def test_times_that_are_none_are_refused(colors: Path, captured: Any, moment: Any, message: str) -> None:
    with mmedge.load(colors) as model:
        model.set_text(["red"])
        with pytest.raises(FrameInputError, match=message):
            model(Frame(frame_of("red"), "mine", 0, captured, moment))


def test_a_frame_that_is_a_tick_ahead_is_new(colors: Path) -> None:
    with mmedge.load(colors) as model:
        model.set_text(["red"])
        model(frame_of("red"))
        results = [model(Frame(frame_of("red"), "mine", 0, time.monotonic() + 0.015, AWARE)) for _ in range(5)]
    assert all(result.age_ms >= 0 for result in results)
