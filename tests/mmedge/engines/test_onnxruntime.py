"""The ONNX Runtime engine: what really runs is what it says, and every refusal is typed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from support.bundles import write_bundle

from mmedge.bundle import Bundle, open_bundle
from mmedge.engines import ENGINES, Engine, EngineStage, StageModel, open_engine
from mmedge.engines import onnxruntime as module
from mmedge.errors import EngineError

PIXELS = {"pixels": np.full((1, 3, 8, 8), 0.5, np.float32)}
WORDS = {"input_ids": np.array([[3, 2]]), "attention_mask": np.array([[1, 0]])}


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    with open_bundle(write_bundle(tmp_path / "tiny.mmedge", external=True)) as opened:
        yield opened


@pytest.fixture
def inline(tmp_path: Path) -> Iterator[Bundle]:
    with open_bundle(write_bundle(tmp_path / "inline.mmedge")) as opened:
        yield opened


def model(bundle: Bundle, name: str, **changes: Any) -> StageModel:
    stage = next(s for s in bundle.manifest.stages if s.name == name)
    path = stage.files["fp32"]
    given = {
        "stage": stage,
        "onnx": bundle.read(path),
        "weights": bundle.weights(),
        "path": lambda: bundle.stages_folder().parent / path,
    }
    return StageModel(**{**given, **changes})


def load(bundle: Bundle, name: str, engine: Engine | None = None) -> EngineStage:
    return (engine or open_engine()).load(model(bundle, name))


@pytest.mark.parametrize("spec", ["auto", "onnxruntime", "onnxruntime:cpu"])
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_a_stage_runs_and_says_on_what(bundle: Bundle, spec: str, threads: int | None) -> None:
    stage = load(bundle, "image", open_engine(spec, threads=threads))
    assert stage.run(PIXELS)["image_vec"].tolist() == [[0.5, 0.5, 0.5]]
    assert stage.engine == f"onnxruntime {ort.__version__}"
    assert (stage.provider, stage.fallbacks) == ("cpu", ())


def test_external_weights_come_from_the_mapped_bundle(bundle: Bundle) -> None:
    assert load(bundle, "text").run(WORDS)["text_vec"].tolist() == [[8.0, 0.0, 0.0]]


class _OldOptions:
    """Session options of ONNX Runtime 1.23, which take no weights from memory."""

    def __init__(self) -> None:
        object.__setattr__(self, "_real", ort.capi.onnxruntime_pybind11_state.SessionOptions())

    def __getattr__(self, name: str) -> Any:
        if name == "add_external_initializers_from_files_in_memory":
            raise AttributeError(name)
        return getattr(object.__getattribute__(self, "_real"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_real"), name, value)


def test_external_weights_come_from_files_where_memory_is_not_taken(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, sources = ort.InferenceSession, []

    def old_session(source: Any, options: Any, **given: Any) -> Any:
        sources.append(source)
        return session(source, object.__getattribute__(options, "_real"), **given)

    monkeypatch.setattr(module.ort, "SessionOptions", _OldOptions)
    monkeypatch.setattr(module.ort, "InferenceSession", old_session)
    assert load(bundle, "text").run(WORDS)["text_vec"].tolist() == [[8.0, 0.0, 0.0]]
    assert sources[0].endswith("stages/text.onnx")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tensorflow", "must be 'auto' or one of onnxruntime"),
        ("", "must be 'auto'"),
        ("onnxruntime:tpu", r"cannot run on 'tpu': devices are cuda, cpu, and this build has .*CPUExecutionProvider"),
    ],
)
def test_what_is_not_there_is_refused(spec: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        open_engine(spec)


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this build has CUDA")
def test_cuda_without_cuda_is_refused() -> None:
    with pytest.raises(EngineError, match=r"cannot run on 'cuda'.*onnxruntime-gpu"):
        open_engine("onnxruntime:cuda")


@pytest.mark.parametrize("spec", [None, 3, ["onnxruntime"]])
def test_an_engine_is_named_by_a_string(spec: Any) -> None:
    with pytest.raises(EngineError, match="must be a string"):
        open_engine(spec)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_threads_must_be_a_count(threads: Any) -> None:
    with pytest.raises(EngineError, match="threads"):
        open_engine(threads=threads)


def test_an_engine_whose_library_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "absent", "mmedge.engines.absent")
    with pytest.raises(EngineError, match="'absent' needs a library"):
        open_engine("absent")


# This build may offer a provider that takes no operator at all: a stand-in for a GPU that does not work.
IDLE = "AzureExecutionProvider"
needs_idle = pytest.mark.skipif(
    IDLE not in ort.get_available_providers()
    or not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"),
    reason=f"needs an ONNX Runtime with {IDLE} that tells where operators run",
)


@needs_idle
def test_a_device_that_takes_nothing_is_an_error_when_asked_for(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._PROVIDERS, "cuda", IDLE)
    with pytest.raises(EngineError, match="placed all 2 operators on the CPU"):
        load(bundle, "image", open_engine("onnxruntime:cuda"))


@needs_idle
def test_a_device_that_takes_nothing_is_a_warning_otherwise(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(module._PROVIDERS, "cuda", IDLE)
    with caplog.at_level(logging.WARNING, "mmedge"):
        stage = load(bundle, "image", open_engine("auto"))
    assert stage.provider == "cpu"
    assert "stage image runs on the CPU" in caplog.text


def test_a_provider_that_onnxruntime_drops_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module.ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    engine = open_engine("onnxruntime:cuda")
    monkeypatch.setattr(module.OnnxRuntimeEngine, "_session", _cpu_session)
    with pytest.raises(EngineError, match=r"was to run on CUDAExecutionProvider and onnxruntime gave it"):
        load(bundle, "image", engine)


def _cpu_session(self: Any, model: StageModel, providers: list[str]) -> ort.InferenceSession:
    return ort.InferenceSession(bytes(model.onnx), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("onnx", [b"", b"no graph at all", bytes(100)], ids=["empty", "noise", "zeros"])
def test_a_graph_that_does_not_parse(inline: Bundle, onnx: bytes) -> None:
    with pytest.raises(EngineError, match="refused stage 'image'"):
        open_engine().load(model(inline, "image", onnx=memoryview(onnx)))


@pytest.mark.skipif(
    not hasattr(ort.SessionOptions, "add_external_initializers_from_files_in_memory"),
    reason="this ONNX Runtime takes weights from files alone",
)
@pytest.mark.parametrize("weights", [{"text.bin": memoryview(b"short")}, {"other.bin": memoryview(bytes(500))}])
def test_weights_that_do_not_fit(bundle: Bundle, weights: dict[str, memoryview]) -> None:
    with pytest.raises(EngineError, match="refused stage 'text'"):
        open_engine().load(model(bundle, "text", weights=weights))


def test_a_graph_that_is_not_what_the_manifest_promises(inline: Bundle) -> None:
    other = inline.read("stages/text.onnx")
    with pytest.raises(EngineError, match=r"promises inputs \['pixels'\], the graph has"):
        open_engine().load(model(inline, "image", onnx=other))


@pytest.mark.parametrize(
    "feeds",
    [
        pytest.param({"pixels": np.zeros((1, 3, 8, 9), np.float32)}, id="shape"),
        pytest.param({"pixels": np.zeros((1, 3, 8, 8), np.float64)}, id="dtype"),
        pytest.param({}, id="missing"),
    ],
)
def test_a_failing_run_names_stage_and_inputs(bundle: Bundle, feeds: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="stage 'image' failed on") as caught:
        load(bundle, "image").run(feeds)
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)
