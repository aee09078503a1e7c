"""Building with the real TensorRT-RTX: plans, ranges, progress, and stopping."""

from __future__ import annotations

import logging
import threading
import time
import traceback
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmedge.bundle import Cost, Stage, TensorSpec
from mmedge.engines import AxisRange
from mmedge.engines.tensorrt import building
from mmedge.engines.tensorrt.building import BuildCancelledError, Job, build
from mmedge.engines.tensorrt.library import Library, messages
from mmedge.engines.tensorrt.profiles import add_profile
from mmedge.engines.tensorrt.progress import LogLines, Progress
from mmedge.errors import EngineError

RANGES = {"n": AxisRange(1, 4, 16)}


def job(library: Library, folder: Path, **changes: Any) -> Job:
    """Eight blocks of a network, weights beside the graph."""
    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for index in range(8):
        weights.append(numpy_helper.from_array(random.standard_normal((32, 32)).astype(np.float32), f"w{index}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [f"a{index}"]))
        nodes.append(helper.make_node("Softmax", [f"a{index}"], [f"b{index}"]))
        last = f"b{index}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 32]) for name in ("x", last)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, folder / "s.onnx", save_as_external_data=True, location=f"{time.time_ns()}.bin", size_threshold=64)
    stage = Stage("s", ("image",), {"fp32": "s"}, (TensorSpec("x", "float32", ("n", 32)),), (), Cost(0, 0))
    given = {"stage": stage, "ranges": RANGES, "architectures": ("sm_89",)}
    return Job(**{"library": library, "onnx": folder / "s.onnx", **given, **changes})


def of_text(library: Library, folder: Path, text: str, inputs: tuple[TensorSpec, ...], **changes: Any) -> Job:
    onnx.save(onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]>\n{text}'), folder / "s.onnx")
    stage = Stage("s", ("image",), {"fp32": "s"}, inputs, (), Cost(0, 0))
    given = {"library": library, "onnx": folder / "s.onnx", "ranges": RANGES, "architectures": ("sm_89",)}
    return Job(stage=stage, **{**given, **changes})


def silent(fraction: float, phase: str) -> None:
    pass


def is_engine(library: Library, plan: memoryview) -> bool:
    """The runtime gets as far as the GPU, which is not there; what is no plan is refused before."""
    log = messages(library)
    runtime = library.trt.Runtime(log)
    assert runtime.deserialize_cuda_engine(b"x" * 4096) is None
    assert "magicTag" in log.errors()
    log.clear()
    runtime.deserialize_cuda_engine(bytes(plan))
    return "Serialization" not in log.errors()


def test_a_plan_for_several_architectures_holds_the_weights_once(rtx: Library, tmp_path: Path) -> None:
    one = build(job(rtx, tmp_path), silent, threading.Event())
    several = build(job(rtx, tmp_path, architectures=("sm_80", "sm_86", "sm_89", "sm_120")), silent, threading.Event())
    assert is_engine(rtx, one.plan)
    assert is_engine(rtx, several.plan)
    assert several.plan.nbytes < 1.1 * one.plan.nbytes
    assert one.timings == b""


def test_progress_grows_from_the_thread_of_the_build(rtx: Library, tmp_path: Path) -> None:
    seen: list[float] = []
    threads = set()

    def report(fraction: float, phase: str) -> None:
        seen.append(fraction)
        threads.add(threading.current_thread().name)
        assert phase

    build(job(rtx, tmp_path), report, threading.Event())
    assert seen == sorted(seen)
    assert len(seen) > 10
    assert 0 < seen[0] < 0.1
    assert seen[-1] <= 1
    assert threading.main_thread().name not in threads


def test_a_build_that_is_stopped(rtx: Library, tmp_path: Path) -> None:
    cancelled = threading.Event()
    reached: list[float] = []

    def report(fraction: float, phase: str) -> None:
        reached.append(fraction)
        cancelled.set()

    with pytest.raises(BuildCancelledError, match="building stage 's' was stopped"):
        build(job(rtx, tmp_path), report, cancelled)
    assert reached[-1] < 0.2


def test_what_the_report_raises_stops_the_build(rtx: Library, tmp_path: Path) -> None:
    def report(fraction: float, phase: str) -> None:
        raise OSError("terminal is gone")

    with pytest.raises(OSError, match="terminal is gone"):
        build(job(rtx, tmp_path), report, threading.Event())


def test_ctrl_c_stops_the_build_before_it_is_raised(
    rtx: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = threading.Event()
    join = threading.Thread.join
    interrupted: list[bool] = []

    def interrupt(self: threading.Thread, timeout: float | None = None) -> None:
        if self.name == "mmedge-build" and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        join(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(job(rtx, tmp_path), silent, cancelled)
    assert cancelled.is_set()
    assert "mmedge-build" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ("sm_87",)}, "cannot build for sm_87: it builds for sm_75, sm_80, sm_86, sm_89, sm_120"),
        ({"architectures": ("sm_75",)}, r"did not build stage 's': .*FP32 GEMM is not supported"),
        ({"ranges": {}}, "axis 'n' of 'x' has no range"),
        ({"ranges": {"n": AxisRange(4, 2, 1)}}, "each needs least <= usual <= most"),
        ({"stage": Stage("s", (), {"fp32": "s"}, (), (), Cost(0, 0))}, "the graph takes 'x', which the manifest does"),
    ],
    ids=["architecture", "builder", "no-range", "range", "contract"],
)
def test_refusals_are_typed(rtx: Library, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        build(job(rtx, tmp_path, **changes), silent, threading.Event())


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("g (float[n, 4] x, int64[2] to) => (float[a, b] y) { y = Reshape(x, to) }",
         (TensorSpec("x", "float32", ("n", 4)), TensorSpec("to", "int64", (2,)))),
        ("g (int64[n, l] x, bool[n, l] m) => (int64[n, l] y, bool[n, l] k) { y = Add(x, x) k = Not(m) }",
         (TensorSpec("x", "int64", ("n", "l")), TensorSpec("m", "bool", ("n", "l")))),
        ("g (float[3, 4] x) => (float[3, 4] y) { y = Relu(x) }", (TensorSpec("x", "float32", (3, 4)),)),
        ("g () => (float[2] y) <float[2] w = {1, 2}> { y = Relu(w) }", ()),
        ("g (float16[n, 4] x) => (float16[n, 4] y) { y = Softmax(x) }", (TensorSpec("x", "float16", ("n", 4)),)),
        ("g (float[n, 4] x, float[4, 4] w) => (float[n, 4] y) <float s = {0.1}, int8 z = {0}> {"
         " a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) c = QuantizeLinear(w, s, z)"
         " d = DequantizeLinear(c, s, z) y = MatMul(b, d) }",
         (TensorSpec("x", "float32", ("n", 4)), TensorSpec("w", "float32", (4, 4)))),
    ],
    ids=["sizes-as-input", "integers", "static", "no-input", "half", "symmetric-q-dq"],
)  # fmt: skip
def test_kinds_of_inputs(rtx: Library, tmp_path: Path, text: str, inputs: tuple[TensorSpec, ...]) -> None:
    ranges = {"n": AxisRange(1, 4, 16), "l": AxisRange(1, 4, 16)}
    assert is_engine(rtx, build(of_text(rtx, tmp_path, text, inputs, ranges=ranges), silent, threading.Event()).plan)


def test_ranges_of_sizes_must_be_known(rtx: Library, tmp_path: Path) -> None:
    text = "g (float[2, 4] x, int64[2] to) => (float[a, b] y) { y = Reshape(x, to) }"
    inputs = (TensorSpec("x", "float32", (2, 4)), TensorSpec("to", "int64", (2,)))
    with pytest.raises(EngineError, match="the values of 'to' set shapes, and they have no range"):
        build(of_text(rtx, tmp_path, text, inputs, ranges={}), silent, threading.Event())


def test_float32_stays_float32(rtx: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own default is TF32, which is not what was compared with the source model."""
    flags = []

    def spy(builder: Any, config: Any, *others: Any) -> None:
        flags.append(config.get_flag(rtx.trt.BuilderFlag.TF32))
        add_profile(builder, config, *others)

    monkeypatch.setattr(building, "add_profile", spy)
    build(job(rtx, tmp_path), silent, threading.Event())
    assert flags == [False]


@pytest.mark.parametrize("architecture", ["sm_75", "sm_87"])
def test_an_error_holds_no_object_of_the_library(rtx: Library, tmp_path: Path, architecture: str) -> None:
    """In a cycle they would be collected some day, perhaps in a callback of the library, and wait for its lock."""
    with pytest.raises(EngineError) as caught:
        build(job(rtx, tmp_path, architectures=(architecture,)), silent, threading.Event())
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert "_build" in [frame.f_code.co_name for frame in frames]
    held = [value for frame in frames for value in frame.f_locals.values()]
    assert not [value for value in held if isinstance(value, (rtx.trt.Builder, rtx.trt.INetworkDefinition))]


def test_the_path_of_tensorrt_proper_keeps_timings_and_limits_memory(rtx: Library, tmp_path: Path) -> None:
    """TensorRT-RTX knows the calls and ignores them."""
    proper = replace(rtx, name="tensorrt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        first = build(job(proper, tmp_path, workspace=1 << 28), silent, threading.Event())
        second = build(job(proper, tmp_path, timings=first.timings), silent, threading.Event())
    assert first.timings
    assert is_engine(rtx, second.plan)


def test_nested_phases_become_one_fraction() -> None:
    seen: list[tuple[float, str]] = []
    progress = Progress(lambda fraction, phase: seen.append((round(fraction, 3), phase)), threading.Event())
    progress.phase_start("all", None, 2)
    progress.phase_start("first", "all", 4)
    assert [progress.step_complete("first", step) for step in range(4)] == [True] * 4
    progress.phase_finish("first")
    progress.step_complete("all", 0)
    progress.phase_start("second", "all", 2)
    progress.step_complete("second", 0)
    progress.step_complete("unknown", 0)
    progress.step_complete("all", 1)
    assert [fraction for fraction, _ in seen] == [0.125, 0.25, 0.375, 0.5, 0.75, 1.0]
    assert seen[0][1] == "first"


def test_log_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    monkeypatch.setattr("mmedge.engines.tensorrt.progress.time.monotonic", lambda: now[0])
    report = LogLines("building stage text")
    with caplog.at_level(logging.INFO, "mmedge"):
        for second in range(25):
            now[0] = float(second)
            report(second / 25, "Optimizing graph")
    assert [record.message for record in caplog.records] == [
        "building stage text: 40 %, Optimizing graph",
        "building stage text: 80 %, Optimizing graph",
    ]
