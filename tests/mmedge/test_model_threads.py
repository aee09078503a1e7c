"""The model and its threads: who waits for whom, and that the last word counts."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import COLOR_STAGES, IMAGE_INPUT, TEXT_INPUT, frame_of, write_bundle
from support.gate import PATIENCE_S, Gate

import mmedge
from mmedge.bundle import Raw, TensorInput, TensorSpec
from mmedge.engines.onnxruntime import OnnxRuntimeStage
from mmedge.errors import EngineError, TextInputError
from mmedge.in_use import InUse, State
from mmedge.model import Model
from mmedge.results import Classification, RawResult
from mmedge.settings import Settings

IMU_STAGE = "imu (float[t] window) => (float total) { total = ReduceSum<keepdims = 0>(window) }"
IMU_INPUT = TensorInput((TensorSpec("window", "float32", ("t",)),))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("colors") / "colors.mmedge", external=True)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = {"image": IMAGE_INPUT, "text": TEXT_INPUT, "imu": IMU_INPUT}
    out = tmp_path_factory.mktemp("three") / "three.mmedge"
    return write_bundle(out, {**COLOR_STAGES, "imu": IMU_STAGE}, inputs=inputs, outputs=("logits", "total"), task=Raw())


@pytest.fixture
def model(path: Path) -> Iterator[Model]:
    with mmedge.load(path) as loaded:
        yield loaded


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def top(result: Any) -> str:
    assert isinstance(result, Classification)
    return result.top[0]


def test_closing_waits_for_the_frame_that_runs(
    model: Model, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.set_text(["red", "blue"])
    gate = Gate(monkeypatch, "image")
    running = pool.submit(model, frame_of("red"))
    gate.wait()
    closing = pool.submit(model.close)
    try:
        with pytest.raises(StillRunning):
            closing.result(0.2)
    finally:
        gate.open()
    assert top(running.result(PATIENCE_S)) == "red"
    closing.result(PATIENCE_S)
    with pytest.raises(EngineError, match="was closed"):
        model(frame_of("red"))


def test_frames_run_one_at_a_time(model: Model, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    model.set_text(["red", "blue"])
    gate = Gate(monkeypatch, "image")
    first = pool.submit(model, frame_of("red"))
    gate.wait()
    second = pool.submit(model, frame_of("blue"))
    alone = gate.stays_empty()
    gate.open()
    assert alone
    assert [top(call.result(PATIENCE_S)) for call in (first, second)] == ["red", "blue"]


@pytest.mark.parametrize("batch", [False, True], ids=["one frame", "several at once"])
def test_frames_do_not_wait_for_prompts(
    batch: bool, model: Model, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.set_text(["red"])
    gate = Gate(monkeypatch, "text")
    setting = pool.submit(model.set_text, ["blue", "red"])
    gate.wait()
    try:
        running = pool.submit(model.run_batch, [frame_of("red")] * 3) if batch else pool.submit(model, frame_of("red"))
        results = running.result(5) if batch else [running.result(5)]
    finally:
        gate.open()
    setting.result(PATIENCE_S)
    assert {(result.labels, result.prompt_version) for result in results} == {(("red",), 1)}


def test_a_batch_sees_one_prompt_list(model: Model, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    # This bundle takes one frame at a time, so the prompts come between the first frame and the second.
    model.set_text(["red", "blue"])
    gate = Gate(monkeypatch, "image+text")
    running = pool.submit(model.run_batch, [frame_of("red"), frame_of("blue")])
    gate.wait()
    model.set_text(["thing"])
    gate.open()
    results = running.result(PATIENCE_S)
    assert [(result.labels, result.prompt_version) for result in results] == [(("red", "blue"), 1)] * 2
    assert model(frame_of("red")).prompt_version == 2


def test_the_later_of_two_prompt_lists_wins(
    model: Model, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, "text")
    first = pool.submit(model.set_text, ["red"])
    gate.wait()
    second = pool.submit(model.set_text, ["blue", "red"])
    alone = gate.stays_empty()
    gate.open()
    for call in (first, second):
        call.result(PATIENCE_S)
    assert alone
    assert (model.prompts, model.prompt_version) == (("blue", "red"), 2)


def test_a_prompt_list_that_changes_meanwhile_labels_nothing_wrong(
    model: Model, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, "text")
    prompts = ["red", "blue"]
    setting = pool.submit(model.set_text, prompts)
    gate.wait()
    prompts.reverse()
    gate.open()
    setting.result(PATIENCE_S)
    result = model(frame_of("red"))
    assert isinstance(result, Classification)
    assert (result.labels, top(result)) == (("red", "blue"), "red")


def test_prompts_are_taken_at_the_call_and_not_after_the_wait(
    model: Model, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, "text")
    setting = pool.submit(model.set_text, ["red"])
    gate.wait()
    refused = pool.submit(model.set_text, [])
    try:
        with pytest.raises(TextInputError):
            refused.result(5)
    finally:
        gate.open()
    setting.result(PATIENCE_S)


def test_tensors_do_not_wait_for_prompts(
    three: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, "text")
    with mmedge.load(three) as model:
        setting = pool.submit(model.set_text, ["red"])
        gate.wait()
        updating = pool.submit(model.update, "imu", window=np.ones(3, np.float32))
        try:
            updating.result(5)
        finally:
            gate.open()
        setting.result(PATIENCE_S)
        result = model(frame_of("red"))
    assert isinstance(result, RawResult)
    assert (result.outputs["total"].item(), result.outputs["logits"].item()) == (3.0, 8.0)


def test_the_later_of_two_updates_wins(three: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "imu")
    with mmedge.load(three) as model:
        model.set_text(["red"])
        first = pool.submit(model.update, "imu", window=np.ones(3, np.float32))
        gate.wait()
        second = pool.submit(model.update, "imu", window=np.ones(5, np.float32))
        alone = gate.stays_empty()
        gate.open()
        for call in (first, second):
            call.result(PATIENCE_S)
        result = model(frame_of("red"))
    assert alone
    assert isinstance(result, RawResult)
    assert result.outputs["total"].item() == 5.0


def test_closing_in_the_middle_of_a_frame_of_the_same_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a signal handler does: it runs in the thread that it interrupts, here between the stages of a frame.
    model = mmedge.load(path)
    model.set_text(["red", "blue"])
    run, results = OnnxRuntimeStage.run, []

    def interrupted(this: OnnxRuntimeStage, feeds: Any) -> Any:
        model.close()
        return run(this, feeds)

    monkeypatch.setattr(OnnxRuntimeStage, "run", interrupted)
    thread = threading.Thread(target=lambda: results.append(model(frame_of("red"))), daemon=True)
    thread.start()
    thread.join(5)
    assert [top(result) for result in results] == ["red"]
    with pytest.raises(EngineError, match="was closed"):
        model(frame_of("red"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the list of mapped files from /proc")
def test_a_closed_model_lets_go_of_the_bundle(path: Path) -> None:
    def mapped() -> bool:
        return str(path) in Path("/proc/self/maps").read_text()

    model = mmedge.load(path)
    model.set_text(["red"])
    assert mapped()
    model.close()
    assert not mapped()


def test_info_never_mixes_two_prompt_lists(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever looks twice sees two settings.
    loaded = model._in_use.state.loaded
    looks = (State(loaded, Settings((f"prompt {version}",), version=version)) for version in itertools.count())
    monkeypatch.setattr(InUse, "state", property(lambda _: next(looks)))
    info = model.info()
    assert info["prompts"] == [f"prompt {info['prompt_version']}"]
    monkeypatch.undo()


def test_frames_never_see_two_prompt_lists(path: Path) -> None:
    lists = [["red"] * 2 + ["blue"] * 3, ["blue"] * 4, ["thing", "red"], ["blue"] * 5 + ["red"] * 2]
    logits = {"red": 8.0, "blue": 0.0, "thing": 1.0}
    stop, wrong = threading.Event(), []
    with mmedge.load(path, prompt_cache=2) as model:
        model.set_text(lists[0])

        def talk() -> None:
            while not stop.is_set():
                for prompts in lists:
                    model.set_text(prompts)

        def look() -> None:
            versions = [0]
            for _ in range(250):
                result = model(frame_of("red"))
                assert isinstance(result, Classification)
                powers = np.exp([logits[label] for label in result.labels])
                if list(result.labels) not in lists or not np.allclose(result.scores, powers / powers.sum(), atol=1e-5):
                    wrong.append(result.to_json())
                versions.append(result.prompt_version)
            if versions != sorted(versions):
                wrong.append({"versions": versions})

        talkers = [threading.Thread(target=talk) for _ in range(2)]
        lookers = [threading.Thread(target=look) for _ in range(2)]
        for thread in (*talkers, *lookers):
            thread.start()
        for thread in lookers:
            thread.join()
        stop.set()
        for thread in talkers:
            thread.join()
        assert model.stats()["text"]["runs"] > len(lists)
    assert wrong == []


def test_frames_of_several_threads_end_when_the_model_is_closed(path: Path) -> None:
    model = mmedge.load(path)
    model.set_text(["red"])
    ended: list[Exception] = []

    def look() -> None:
        try:
            while True:
                model(frame_of("red"))
        except EngineError as error:
            ended.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    model.close()
    for thread in threads:
        thread.join(10)
    assert ["was closed" in str(error) for error in ended] == [True] * 3
