"""The engine: where plans come from, what is kept, and serving while one is built; GPU and builder are stand-ins."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import engine_stand_in
from support.bundles import COLORS, frame_of, write_bundle
from support.command import ENVIRONMENT
from support.gpu_stand_in import Gpu

import mmedge
from mmedge.bundle import Bundle, open_bundle
from mmedge.cache import DiskCache
from mmedge.engines import StageModel, open_engine
from mmedge.engines.onnxruntime import OnnxRuntimeEngine
from mmedge.engines.tensorrt import engine as module
from mmedge.engines.tensorrt.building import BuildCancelledError, Built, Job
from mmedge.engines.tensorrt.engine import TensorRtEngine, open_tensorrt
from mmedge.errors import EngineError
from mmedge.loading import stage_models

PIXELS = {"pixels": np.full((1, 3, 8, 8), 0.5, np.float32)}
PATIENCE_S = 20.0


class Builder:
    """Stands in for the library's builder: a plan is the graph's own bytes. Waits while `held`."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.began = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.failure: Exception | None = None

    def __call__(self, job: Job, report: Any, cancelled: threading.Event, around: Any) -> Built:
        self.jobs.append(job)
        self.began.set()
        with around():
            while not self.go.wait(0.01):
                if cancelled.is_set():
                    raise BuildCancelledError("stopped")
        if self.failure is not None:
            raise self.failure
        report(1.0, "done")
        return Built(memoryview(job.onnx.read_bytes()), b"timings of this GPU")


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    made = Builder()
    monkeypatch.setattr(module, "build", made)
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    with open_bundle(write_bundle(tmp_path / "tiny.mmedge")) as opened:
        yield opened


@pytest.fixture
def engine(gpu: Gpu) -> Iterator[TensorRtEngine]:
    opened = open_tensorrt("tensorrt", None, 1)
    yield opened
    opened.close()


def image(bundle: Bundle, **changes: Any) -> StageModel:
    return replace(next(model for model in stage_models(bundle, "fp32") if model.stage.name == "image"), **changes)


def wait(stage: Any, provider: str = "cuda sm_89") -> None:
    end = time.monotonic() + PATIENCE_S
    while stage.provider != provider:
        assert time.monotonic() < end, f"{provider} never came: {stage.provider}"
        time.sleep(0.01)


def test_onnxruntime_serves_until_the_engine_is_there(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    builder.go.clear()
    with caplog.at_level(logging.INFO, "mmedge"):
        stage = engine.load(image(bundle))
        before = stage.run(PIXELS)["image_vec"]
        assert (stage.engine.split()[0], stage.provider) == ("onnxruntime", "cpu")
        builder.go.set()
        wait(stage)
    assert stage.engine == "tensorrt 10.9.0"
    assert stage.fallbacks == ()
    np.testing.assert_array_equal(stage.run(PIXELS)["image_vec"], before)
    assert "runs on onnxruntime" in caplog.text
    assert "stage image runs on tensorrt 10.9.0, cuda sm_89 from now on" in caplog.text


def test_a_run_ends_where_it_began(bundle: Bundle, engine: TensorRtEngine, builder: Builder, gpu: Gpu) -> None:
    builder.go.clear()
    stage = engine.load(image(bundle))
    inner, inside, results = stage._stage, threading.Event(), []  # type: ignore[attr-defined]
    run = inner.run

    def slow(feeds: Any) -> Any:
        inside.set()
        builder.go.set()
        wait(stage)
        return run(feeds)

    inner.run = slow
    thread = threading.Thread(target=lambda: results.append(stage.run(PIXELS)))
    thread.start()
    assert inside.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert "execute" not in gpu.calls
    stage.run(PIXELS)
    assert "execute" in gpu.calls
    np.testing.assert_allclose(results[0]["image_vec"], 0.5)


def test_a_build_that_fails_leaves_onnxruntime_serving(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    builder.failure = EngineError("tensorrt 10.9.0 does not take image.onnx: node 3 (Det)")
    stage = engine.load(image(bundle))
    thread = engine._builds._thread
    if thread is not None:
        thread.join(PATIENCE_S)
    assert stage.provider == "cpu"
    assert stage.run(PIXELS)["image_vec"].shape == (1, 3)
    assert "stage image stays on onnxruntime" in caplog.text
    assert "node 3 (Det)" in caplog.text


def test_the_second_time_the_engine_comes_from_the_cache(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder, gpu: Gpu
) -> None:
    wait(engine.load(image(bundle)))
    again = open_tensorrt("tensorrt", None, 1).load(image(bundle))
    assert again.provider == "cuda sm_89"
    assert len(builder.jobs) == 1
    assert builder.jobs[0].timings == b""
    assert builder.jobs[0].workspace == 3 << 30
    other = engine.load(image(bundle, sha256="another"))
    wait(other)
    assert builder.jobs[1].timings == b"timings of this GPU"


@pytest.mark.parametrize(
    "changes",
    [{"sha256": "f" * 64}, {"precision": "fp16"}, {"ranges": {"n": mmedge.engines.AxisRange(1, 2, 3)}}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_differs_is_built_anew(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder, changes: dict[str, Any]
) -> None:
    wait(engine.load(image(bundle)))
    wait(engine.load(image(bundle, **changes)))
    assert len(builder.jobs) == 2


@pytest.mark.parametrize("what", ["version", "gpu"])
def test_engines_of_another_version_or_gpu_are_not_used(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder, gpu: Gpu, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait(engine.load(image(bundle)))
    other = Gpu(sm=87) if what == "gpu" else gpu
    monkeypatch.setitem(sys.modules, "pycuda.driver", other.pycuda())
    version = "10.10.0" if what == "version" else "10.9.0"
    monkeypatch.setitem(sys.modules, "tensorrt", engine_stand_in.module(other, version=version))
    opened = open_tensorrt("tensorrt", None, 1)
    wait(opened.load(image(bundle)), "cuda sm_87" if what == "gpu" else "cuda sm_89")
    assert len(builder.jobs) == 2


def test_a_damaged_entry_is_built_again(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wait(engine.load(image(bundle)))
    (entry,) = (tmp_path / "cache" / "tensorrt").glob("*.entry")
    entry.write_bytes(entry.read_bytes()[:-7])
    wait(engine.load(image(bundle)))
    assert len(builder.jobs) == 2
    assert "is damaged" in caplog.text


def test_an_entry_that_the_library_does_not_load_is_built_again(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    DiskCache("tensorrt").put(engine._key(image(bundle)), b"of an older driver")
    stage = engine.load(image(bundle))
    assert stage.provider == "cpu"
    wait(stage)
    assert "from the cache is built again" in caplog.text


def test_a_full_disk_costs_the_cache_and_not_the_engine(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmedge.cache._write", full)
    wait(engine.load(image(bundle)))
    assert "No space left on device" in caplog.text


def test_another_engine_that_builds_the_same_waits_for_it(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder
) -> None:
    builder.go.clear()
    other = open_tensorrt("tensorrt", None, 1)
    stages = [engine.load(image(bundle)), other.load(image(bundle))]
    assert builder.began.wait(PATIENCE_S)
    builder.go.set()
    for stage in stages:
        wait(stage)
    assert len(builder.jobs) == 1
    other.close()


def test_a_process_that_is_killed_in_a_build_leaves_the_cache_usable(
    tmp_path: Path, engine: TensorRtEngine, builder: Builder
) -> None:
    """While it lives, it is waited for; then its lock is gone, and nothing half-written is taken for an engine."""
    path = write_bundle(tmp_path / "tiny.mmedge")
    program = """
import sys, types
sys.path[:0] = [sys.argv[1]]
from support import engine_stand_in
from support.gpu_stand_in import Gpu
import test_engine as t
gpu, builder = Gpu(), t.Builder()
sys.modules["pycuda"], sys.modules["pycuda.driver"] = types.ModuleType("pycuda"), gpu.pycuda()
sys.modules["tensorrt"] = engine_stand_in.module(gpu)
t.module.build = builder
builder.go.clear()
with t.open_bundle(sys.argv[2]) as bundle:
    stage = t.open_tensorrt("tensorrt", None, 1).load(t.image(bundle))
    builder.began.wait(20)
    print("BUILDING", flush=True)
    builder.go.wait(60)
"""
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(path)]
    environment = {**ENVIRONMENT, "MMEDGE_CACHE_DIR": str(tmp_path / "cache")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "BUILDING\n"
        with open_bundle(path) as opened:
            stage = engine.load(image(opened))
            assert not builder.began.wait(0.3)
            process.kill()
            wait(stage)
    assert len(builder.jobs) == 1


def test_closing_stops_the_build(bundle: Bundle, engine: TensorRtEngine, builder: Builder) -> None:
    builder.go.clear()
    stage = engine.load(image(bundle))
    engine.load(image(bundle, sha256="next"))
    assert builder.began.wait(PATIENCE_S)
    engine.close()
    engine.close()
    assert stage.provider == "cpu"
    assert len(builder.jobs) == 1
    assert stage.run(PIXELS)["image_vec"].shape == (1, 3)


def test_a_plan_of_the_bundle_comes_first(bundle: Bundle, engine: TensorRtEngine, builder: Builder) -> None:
    asked = []
    model = image(bundle)

    def plan(*wanted: str) -> memoryview:
        asked.append(wanted)
        return model.onnx

    stage = engine.load(replace(model, plan=plan))
    assert stage.provider == "cuda sm_89"
    assert asked == [("tensorrt", "10.9.0", "sm_89")]
    assert builder.jobs == []


def test_a_plan_of_the_bundle_that_does_not_load_is_built(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    wait(engine.load(image(bundle, plan=lambda *wanted: memoryview(b"of another world"))))
    assert "from the bundle is built again" in caplog.text


def test_what_onnxruntime_cannot_serve_is_waited_for(
    bundle: Bundle, engine: TensorRtEngine, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: OnnxRuntimeEngine, model: StageModel) -> Any:
        raise EngineError("no such operator")

    monkeypatch.setattr(OnnxRuntimeEngine, "load", refuse)
    assert engine.load(image(bundle)).provider == "cuda sm_89"


def test_rounding_by_the_engine_is_refused(bundle: Bundle, engine: TensorRtEngine) -> None:
    with pytest.raises(EngineError, match="engines of tensorrt compute what the graph says"):
        engine.load(image(bundle, compute="bf16"))


@pytest.mark.parametrize("device", ["tpu", "-1", "0.5"])
def test_a_device_is_a_number(gpu: Gpu, device: str) -> None:
    with pytest.raises(EngineError, match="the device must be the number of a GPU"):
        open_engine(f"tensorrt:{device}")


def test_a_whole_model_gives_what_onnxruntime_gives(tmp_path: Path, gpu: Gpu, builder: Builder) -> None:
    path = write_bundle(tmp_path / "tiny.mmedge")
    builder.go.clear()
    with mmedge.load(path, engine="onnxruntime:cpu") as theirs, mmedge.load(path, engine="tensorrt:0") as ours:
        for round in range(2):
            for prompts in (["red", "blue thing", "a green thing"], ["blue"]):
                for model in (theirs, ours):
                    model.set_text(prompts)
                for color in COLORS:
                    np.testing.assert_array_equal(ours(frame_of(color)).scores, theirs(frame_of(color)).scores)
            assert ("execute" in gpu.calls) == (round == 1)
            builder.go.set()
            while {stats["provider"] for stats in ours.stats().values()} != {"cuda sm_89"}:
                time.sleep(0.01)


def test_a_process_that_ends_stops_its_builds(tmp_path: Path) -> None:
    """The real builder, in a process that leaves while it works: it must neither crash nor hang."""
    pytest.importorskip("tensorrt_rtx_bindings")
    program = """
import sys, threading
sys.path[:0] = [sys.argv[1]]
from mmedge.engines.tensorrt.serving import BackgroundBuilds
import test_building as t
from pathlib import Path
from mmedge.engines.tensorrt.building import BuildCancelledError, build
from mmedge.engines.tensorrt.library import open_library
builds, began = BackgroundBuilds(), threading.Event()
def report(fraction, phase):
    began.set()
    builds.cancelled.wait(20)
def work():
    try:
        build(t.job(open_library("tensorrt_rtx"), Path(sys.argv[2])), report, builds.cancelled)
    except BuildCancelledError as error:
        print("STOPPED", error, flush=True)
builds.submit(work)
assert began.wait(30)
"""
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", program, here, str(tmp_path)],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "STOPPED" in done.stdout
