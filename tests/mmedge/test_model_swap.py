"""Another bundle while frames run: all of it or nothing of it, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import COLOR_STAGES, IMAGE_INPUT, TEXT, TEXT_INPUT, color_goldens, frame_of, write_bundle
from support.gate import PATIENCE_S, Gate

import mmedge
from mmedge.bundle import Classify, Golden, Raw, TensorInput, TensorSpec
from mmedge.engines.onnxruntime import OnnxRuntimeStage
from mmedge.errors import BundleError, EngineError, FrameInputError, InputError, TensorInputError, TextInputError
from mmedge.loaded import Loaded
from mmedge.model import Model
from mmedge.results import Classification

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


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("full") / "full.mmedge", external=True, task=Classify("logits", "none"))


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stages = {**COLOR_STAGES, "text": HALF_TEXT}
    out = tmp_path_factory.mktemp("half") / "half.mmedge"
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


@pytest.fixture
def model(full: Path) -> Iterator[Model]:
    with mmedge.load(full) as loaded:
        yield loaded


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def scores(result: Any) -> dict[str, float]:
    assert isinstance(result, Classification)
    return dict(zip(result.labels, result.scores.tolist(), strict=True))


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


def test_a_model_that_is_closed_meanwhile(
    model: Model, half: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
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
