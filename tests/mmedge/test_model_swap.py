"""Another bundle while frames run: all of it or nothing of it, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import frame_of
from support.gate import PATIENCE_S, Gate
from support.swapping import TWICE_STAGE, full_bundle, half_bundle, scores, with_imu

import mmedge
from mmedge.engines.onnxruntime import OnnxRuntimeStage
from mmedge.errors import BundleError, EngineError, InputError, TextInputError
from mmedge.loaded import Loaded
from mmedge.model import Model
from mmedge.results import Classification


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


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def test_the_prompts_in_force_go_over(model: Model, half: Path) -> None:
    model.set_text(["red", "blue"])
    assert scores(model(frame_of("red"))) == {"red": 8.0, "blue": 0.0}
    model.swap(half)
    result = model(frame_of("red"))
    assert scores(result) == {"red": 4.0, "blue": 0.0}
    assert (model.prompts, model.prompt_version, result.prompt_version) == (("red", "blue"), 2, 2)
    model.set_text(["red"])
    assert model.prompt_version == 3


def test_warnings_of_the_new_tokenizer_go_with_them(model: Model, half: Path) -> None:
    model.set_text(["red a a a a a a a a"])
    model.swap(half)
    assert "was cut from" in model(frame_of("red")).warnings[0]


def test_before_the_first_prompts_there_are_none_to_take_over(model: Model, half: Path) -> None:
    model.swap(half)
    with pytest.raises(TextInputError, match="needs prompts"):
        model(frame_of("red"))
    model.set_text(["red"])
    assert scores(model(frame_of("red"))) == {"red": 4.0}


def test_counters_and_caches_start_anew(model: Model, half: Path) -> None:
    model.set_text(["red"])
    model.swap(half)
    # The goldens left no trace; one black frame was run.
    assert {name: stage["runs"] for name, stage in model.stats().items()} == {"image": 1, "text": 1, "image+text": 1}


def test_what_was_asked_for_at_load_stays_asked_for(full: Path, half: Path, tmp_path: Path) -> None:
    with mmedge.load(full, engine="onnxruntime:cpu", threads=1, prompt_cache=3) as model:
        model.swap(half)
        options = model._in_use.state.loaded.options
        assert (options.engine, options.threads, options.prompt_cache) == ("onnxruntime:cpu", 1, 3)
        model.swap(full, threads=2)
        assert model._in_use.state.loaded.options.threads == 2
        with pytest.raises(InputError, match="threshold is for models that find boxes"):
            model.swap(full, threshold=0.5)
        with pytest.raises(EngineError, match="must be 'auto' or one of"):
            model.swap(full, engine="abacus")
        with pytest.raises(BundleError, match="no variant 'int3'"):
            model.swap(full, precision="int3")


def test_results_belong_to_one_bundle_and_one_prompt_list(full: Path, half: Path) -> None:
    """Two threads look, one talks, one swaps, all as fast as they can."""
    lists = [("red",) * 2 + ("blue",) * 3, ("blue",) * 4, ("thing", "red"), ("red", "blue")]
    stop, wrong = threading.Event(), []
    seen: dict[int, set[tuple[float, tuple[str, ...]]]] = {}
    with mmedge.load(full, prompt_cache=2) as model:
        model.set_text(lists[0])
        model.warmup(1)

        def talk() -> None:
            while not stop.is_set():
                for prompts in lists:
                    model.set_text(prompts)

        def look(batch: bool) -> None:
            last = 0
            while not stop.is_set():
                for result in model.run_batch([frame_of("red")] * 3) if batch else [model(frame_of("red"))]:
                    assert isinstance(result, Classification)
                    red = 8.0 if 8.0 in result.scores else 4.0
                    known = {"red": red, "blue": 0.0, "thing": 1.0}
                    exact = [known[label] for label in result.labels] == result.scores.tolist()
                    if result.labels not in lists or not exact or result.prompt_version < last:
                        wrong.append(result.to_json())
                    last = result.prompt_version
                    if "red" in result.labels:
                        seen.setdefault(last, set()).add((red, result.labels))

        threads = [threading.Thread(target=look, args=(False,)), threading.Thread(target=look, args=(True,))]
        threads.append(threading.Thread(target=talk))
        for thread in threads:
            thread.start()
        before = model.prompt_version
        for _ in range(6):
            model.swap(half)
            model.swap(full)
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert model.prompt_version - before >= 12
    assert wrong == []
    # A version stands for one bundle and one list.
    assert all(len(pairs) == 1 for pairs in seen.values())
    assert {red for pairs in seen.values() for red, _ in pairs} == {4.0, 8.0}


def test_frames_go_on_while_the_new_bundle_is_prepared(
    model: Model, half: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.set_text(["red"])
    entered, leave = threading.Event(), threading.Event()
    verify = Loaded.verify

    def slow(self: Loaded) -> Any:
        entered.set()
        assert leave.wait(PATIENCE_S)
        return verify(self)

    monkeypatch.setattr(Loaded, "verify", slow)
    swapping = pool.submit(model.swap, half)
    assert entered.wait(PATIENCE_S)
    try:
        # Prompts do not wait for the load either.
        for version in range(2, 6):
            assert scores(model(frame_of("red"))) == {"red": 8.0}
            pool.submit(model.set_text, ["red"]).result(PATIENCE_S)
            assert model.prompt_version == version
    finally:
        leave.set()
    swapping.result(PATIENCE_S)
    assert scores(model(frame_of("red"))) == {"red": 4.0}
    assert model.prompt_version == 6


def test_frames_and_batches_go_on_while_text_stages_of_the_new_bundle_run(
    model: Model, half: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.set_text(["red"])
    taking, leave = threading.Event(), threading.Event()
    prompts = Loaded.with_prompts

    def slow(self: Loaded, labels: tuple[str, ...]) -> Any:
        taking.set()
        assert leave.wait(PATIENCE_S)
        return prompts(self, labels)

    monkeypatch.setattr(Loaded, "with_prompts", slow)
    swapping = pool.submit(model.swap, half)
    assert taking.wait(PATIENCE_S)
    try:
        assert scores(model(frame_of("red"))) == {"red": 8.0}
        assert len(pool.submit(model.run_batch, [frame_of("red")] * 2).result(PATIENCE_S)) == 2
    finally:
        leave.set()
    swapping.result(PATIENCE_S)
    assert scores(model(frame_of("red"))) == {"red": 4.0}


def test_the_old_bundle_is_closed_after_the_frame_that_it_is_at(
    model: Model, half: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.set_text(["red"])
    old = model._in_use.state.loaded.bundle
    gate = Gate(monkeypatch, "image+text")
    running = pool.submit(model, frame_of("red"))
    gate.wait()
    monkeypatch.setattr(Loaded, "try_out", lambda *_: None)
    monkeypatch.setattr(Loaded, "verify", lambda *_: type("Passed", (), {"passed": True}))
    swapping = pool.submit(model.swap, half)
    while model.prompt_version == 1:
        threading.Event().wait(0.01)
    # The new bundle is in use, and the old one still open for its last frame.
    assert old.read("manifest.json" if "manifest.json" in old.manifest.files else "tokenizer.json")
    assert not swapping.done()
    gate.open()
    assert scores(running.result(PATIENCE_S)) == {"red": 8.0}
    swapping.result(PATIENCE_S)
    with pytest.raises(BundleError, match="is closed"):
        old.read("tokenizer.json")
    assert scores(model(frame_of("red"))) == {"red": 4.0}


def test_tensors_that_are_set_go_over_with_their_age(tmp_path: Path) -> None:
    twice = with_imu(tmp_path / "twice.mmedge", TWICE_STAGE, factor=2.0)
    with mmedge.load(with_imu(tmp_path / "once.mmedge")) as model:
        model.set_text(["red"])
        model.update("imu", window=np.ones(3, np.float32))
        before: Any = model(frame_of("red"))
        model.swap(twice)
        after: Any = model(frame_of("red"))
        assert (before.outputs["total"].item(), after.outputs["total"].item()) == (3.0, 6.0)
        assert after.input_ages_ms["imu"] > before.input_ages_ms["imu"]


def test_swapping_in_the_middle_of_a_frame_of_the_same_thread(
    model: Model, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a signal handler does: it runs in the thread that it interrupts, here between the stages of a frame.
    model.set_text(["red"])
    run, inside, results = OnnxRuntimeStage.run, [], []

    def interrupted(this: OnnxRuntimeStage, feeds: Any) -> Any:
        if not inside:
            inside.append(this)
            model.swap(half)
        return run(this, feeds)

    monkeypatch.setattr(OnnxRuntimeStage, "run", interrupted)
    thread = threading.Thread(
        target=lambda: results.extend([model(frame_of("red")), model(frame_of("red"))]), daemon=True
    )
    thread.start()
    thread.join(PATIENCE_S)
    assert [scores(result) for result in results] == [{"red": 8.0}, {"red": 4.0}]


def test_prompts_set_in_the_middle_of_a_swap_by_the_same_thread(
    model: Model, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.set_text(["red"])
    try_out, said = Loaded.try_out, []

    def interrupted(self: Loaded, settings: Any) -> None:
        if not said:
            said.append(True)
            model.set_text(["blue", "red"])
        try_out(self, settings)

    monkeypatch.setattr(Loaded, "try_out", interrupted)
    model.swap(half)
    assert scores(model(frame_of("red"))) == {"blue": 0.0, "red": 4.0}
    assert model.prompt_version == 3
