"""The OpenVINO engine: it gives what ONNX Runtime gives, in the arithmetic that was asked for, or says why not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.bundles import COLOR_STAGES, frame_of, write_bundle
from support.gate import PATIENCE_S, Gate

import mmedge
from mmedge.bundle import Bundle, Cost, Stage, TensorSpec, open_bundle
from mmedge.engines import StageModel, open_engine
from mmedge.errors import EngineError
from mmedge.loading import stage_models
from mmedge.results import Classification

ov = pytest.importorskip("openvino")
module = pytest.importorskip("mmedge.engines.openvino")

PIXELS = {"pixels": np.full((1, 3, 8, 8), 0.5, np.float32)}
CAPABLE = [str(name) for name in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")]


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    with open_bundle(write_bundle(tmp_path / "tiny.mmedge", external=True)) as opened:
        yield opened


def stage_model(model: onnx.ModelProto, folder: Path, **changes: Any) -> StageModel:
    """The contract of a graph as its own inputs and outputs describe it."""
    path = folder / "graph.onnx"
    onnx.save(model, path)
    stage = Stage("graph", ("image",), {}, _specs(model.graph.input), _specs(model.graph.output), Cost(0, 0))
    given = {"stage": stage, "onnx": memoryview(path.read_bytes()), "weights": {}, "path": lambda: path}
    return StageModel(**{**given, **changes})


def _specs(values: Any) -> tuple[TensorSpec, ...]:
    specs = []
    for value in values:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        specs.append(TensorSpec(value.name, dtype, tuple(d.dim_param or d.dim_value for d in kind.shape.dim)))
    return tuple(specs)


def parse(text: str, opset: int = 20) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]>\n{text}')
    onnx.checker.check_model(model)
    return model


RANDOM = np.random.default_rng(7)
FLOATS = RANDOM.standard_normal((5, 4)).astype(np.float32)

GRAPHS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "float": ("g (float[n, 4] x) => (float[n, 4] y) { y = Softmax(x) }", {"x": FLOATS}),
    "no rows": ("g (float[n, 4] x) => (float[n, 4] y) { y = Softmax(x) }", {"x": FLOATS[:0]}),
    "strided": ("g (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }", {"x": np.asfortranarray(FLOATS)}),
    "scalar": ("g (float x) => (float y) { y = Exp(x) }", {"x": np.array(0.5, np.float32)}),
    "float16": ("g (float16[n] x) => (float16[n] y) { y = Add(x, x) }", {"x": FLOATS[0].astype(np.float16)}),
    "float64": ("g (double[n] x) => (double[n] y) { y = Neg(x) }", {"x": FLOATS[0].astype(np.float64)}),
    "bool": (
        "g (bool[n] x) => (bool[n] y, int64[n] z) { y = Not(x) \n z = Cast<to = 7>(x) }",
        {"x": np.array([True, False, True])},
    ),
    "integers": (
        "g (int64[n] a, int32[n] b, uint8[n] c) => (int64[n] x, int32[n] y, float[n] z) "
        "{ x = Add(a, a) \n y = Neg(b) \n z = Cast<to = 1>(c) }",
        {"a": np.array([-3, 1 << 29]), "b": np.array([1, -2], np.int32), "c": np.array([0, 255], np.uint8)},
    ),
    "no inputs": ("g () => (float[2] y) <float[2] k = {1, 2}> { y = Add(k, k) }", {}),
    "a constant": ("g () => (float[2] y) <float[2] k = {1, 2}> { y = Identity(k) }", {}),
    "an input nobody reads": (
        "g (float[n] x, float[m] other) => (float[n] y) { y = Relu(x) }",
        {"x": FLOATS[0], "other": FLOATS[1, :2]},
    ),
    "two names of one value": (
        "g (float[n] x) => (float[n] y, float[n] z) { y = Relu(x) \n z = Identity(y) }",
        {"x": FLOATS[0]},
    ),
    "outputs in another order": (
        "g (float[n] x) => (float[n] z, float[n] a, int64[1] s) { a = Relu(x) \n z = Exp(a) \n s = Shape(x) }",
        {"x": FLOATS[0]},
    ),
    "an input that comes out": (
        "g (float[n] x) => (float[n] y, float[n] z) { y = Identity(x) \n z = Exp(x) }",
        {"x": FLOATS[0]},
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_it_gives_what_onnxruntime_gives(name: str, tmp_path: Path) -> None:
    text, feeds = GRAPHS[name]
    model = stage_model(parse(text), tmp_path)
    expected = open_engine("onnxruntime:cpu", threads=1).load(model).run(feeds)
    ours = open_engine("openvino:cpu", threads=1).load(model).run(feeds)
    assert list(ours) == list(expected)
    for output, array in expected.items():
        assert (ours[output].dtype, ours[output].shape) == (array.dtype, array.shape)
        np.testing.assert_allclose(ours[output], array, rtol=1e-6)


def test_attention_of_opset_23(tmp_path: Path) -> None:
    text = """g (float[1, m, 8] q, float[1, l, 8] k, float[1, l, 8] v) => (float[1, m, 8] y)
    { y = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, v) }"""
    feeds = {name: RANDOM.standard_normal((1, 3 if name == "q" else 5, 8)).astype(np.float32) for name in "qkv"}
    model = stage_model(parse(text, 23), tmp_path)
    expected = open_engine("onnxruntime:cpu").load(model).run(feeds)["y"]
    np.testing.assert_allclose(open_engine("openvino").load(model).run(feeds)["y"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", ["openvino", "openvino:cpu"])
@pytest.mark.parametrize("threads", [None, 1])
def test_a_stage_runs_and_says_on_what(bundle: Bundle, spec: str, threads: int | None) -> None:
    engine = open_engine(spec, threads=threads)
    stage = engine.load(stage_models(bundle, "fp32")[0])
    assert stage.run(PIXELS)["image_vec"].tolist() == [[0.5, 0.5, 0.5]]
    assert stage.engine == f"openvino {module.VERSION}"
    assert (stage.provider, stage.fallbacks) == ("cpu", ())
    assert (engine.identity, engine.static_shapes) == (f"openvino {module.VERSION} cpu", False)


def test_threads_are_what_was_asked_for(bundle: Bundle) -> None:
    stage: Any = open_engine("openvino:cpu", threads=1).load(stage_models(bundle, "fp32")[0])
    assert stage._compiled[()]._compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_outputs_are_new_arrays(bundle: Bundle) -> None:
    stage = open_engine("openvino:cpu").load(stage_models(bundle, "fp32")[0])
    first = stage.run(PIXELS)["image_vec"]
    second = stage.run({"pixels": PIXELS["pixels"] * 2})["image_vec"]
    assert (first.tolist(), second.tolist()) == ([[0.5] * 3], [[1.0] * 3])
    assert first.flags.owndata
    assert first.flags.writeable


def test_any_thread_may_run_it(tmp_path: Path) -> None:
    text = "g (float[n, 64] x) => (float[n, 64] y) { y = Softmax(x) }"
    stage = open_engine("openvino:cpu", threads=1).load(stage_model(parse(text), tmp_path))
    arrays = [RANDOM.standard_normal((200 + i, 64)).astype(np.float32) for i in range(4)]

    def run(array: Any) -> list[Any]:
        return [stage.run({"x": array})["y"] for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        for array, results in zip(arrays, pool.map(run, arrays), strict=True):
            powers = np.exp(array - array.max(axis=1, keepdims=True))
            for result in results:
                np.testing.assert_allclose(result, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-7)


def product(folder: Path, compute: str) -> tuple[StageModel, Any]:
    """A product of 256 terms, and its weight: large enough that bfloat16 shows."""
    weight = RANDOM.standard_normal((256, 256)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 256])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 256])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = onnx.helper.make_model(graph, ir_version=9, opset_imports=[onnx.helper.make_opsetid("", 20)])
    return stage_model(model, folder, compute=compute, precision=compute), weight


def product_error(folder: Path, compute: str) -> float:
    model, weight = product(folder, compute)
    x = RANDOM.standard_normal((64, 256)).astype(np.float32)
    got = open_engine("openvino:cpu").load(model).run({"x": x})["y"]
    assert got.dtype == np.float32
    exact = x.astype(np.float64) @ weight
    return float(np.linalg.norm(got - exact) / np.linalg.norm(exact))


def test_float32_is_computed_in_float32(tmp_path: Path) -> None:
    """OpenVINO's own choice on processors with bfloat16 would be bfloat16."""
    assert product_error(tmp_path, "fp32") < 1e-6


@pytest.mark.skipif("BF16" not in CAPABLE, reason="this processor has no bfloat16")
def test_bfloat16_is_computed_in_bfloat16(tmp_path: Path) -> None:
    assert 1e-4 < product_error(tmp_path, "bf16") < 1e-2


@pytest.mark.parametrize(("compute", "capability"), [("bf16", "BF16"), ("fp16", "FP16")])
def test_arithmetic_that_the_device_lacks_is_refused(
    compute: str, capability: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return [name for name in ("FP32", "BF16", "FP16", "INT8") if name != capability]

    engine = module.OpenVinoEngine(Core(), "cpu", None, static_shapes=False)
    with pytest.raises(EngineError, match=rf"computes in {compute}, and openvino's cpu here has FP32.*choose another"):
        engine.load(product(tmp_path, compute)[0])


def test_a_device_that_takes_other_arithmetic_than_asked_for_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._COMPUTE, "fp16", ("FP32", ov.Type.f16))
    if "FP16" in CAPABLE:
        pytest.skip("this processor has float16")
    with pytest.raises(EngineError, match=r"was to compute in .*16"):
        open_engine("openvino:cpu").load(product(tmp_path, "fp16")[0])


@pytest.mark.parametrize("device", ["gpu", "npu", "tpu", "CPU", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    if device == "":
        assert open_engine("openvino:").identity.endswith("cpu")
        return
    if any(found.startswith(device.upper()) for found in ov.Core().available_devices) and device != "CPU":
        pytest.skip(f"this machine has a device {device}")
    with pytest.raises(EngineError, match=f"cannot run on '{device}': devices are cpu, gpu, npu, and this machine has"):
        open_engine(f"openvino:{device}")


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        pytest.param({"x": np.zeros((2, 5), np.float32)}, r"x must be float32 \['n', 4\]", id="shape"),
        pytest.param({"x": np.zeros(4, np.float32)}, "x must be float32", id="rank"),
        pytest.param({"x": np.zeros((2, 4))}, "x must be float32", id="dtype"),
        pytest.param({}, r"it takes \['x'\], got \[\]", id="missing"),
        pytest.param({"x": FLOATS, "z": FLOATS}, "got", id="unknown"),
    ],
)
def test_what_the_stage_does_not_take_is_refused(feeds: dict[str, Any], message: str, tmp_path: Path) -> None:
    text = "g (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }"
    with pytest.raises(EngineError, match=f"stage 'graph' failed.*{message}"):
        open_engine("openvino").load(stage_model(parse(text), tmp_path)).run(feeds)


def test_sizes_that_contradict_each_other_name_stage_and_inputs(tmp_path: Path) -> None:
    text = "g (float[n] x, float[n] z) => (float[n] y) { y = Add(x, z) }"
    stage = open_engine("openvino").load(stage_model(parse(text), tmp_path))
    with pytest.raises(EngineError, match=r"stage 'graph' failed on x float32 \[4\], z float32 \[2\]") as caught:
        stage.run({"x": FLOATS[0], "z": FLOATS[0, :2]})
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(stage.run({"x": FLOATS[0], "z": FLOATS[1]})["y"], FLOATS[0] + FLOATS[1])


def test_integers_that_openvino_would_cut_are_refused(tmp_path: Path) -> None:
    text = "g (int64[n] x) => (int64[n] y) { y = Add(x, x) }"
    stage = open_engine("openvino").load(stage_model(parse(text), tmp_path))
    assert stage.run({"x": np.array([-5, 7])})["y"].tolist() == [-10, 14]
    for value in (1 << 31, -(1 << 31) - 1):
        with pytest.raises(EngineError, match="x holds integers beyond 32 bits"):
            stage.run({"x": np.array([value])})


@pytest.mark.parametrize("onnx_bytes", [b"", b"no graph at all", bytes(100)], ids=["empty", "noise", "zeros"])
def test_a_graph_that_does_not_parse(onnx_bytes: bytes, tmp_path: Path) -> None:
    model = stage_model(parse("g (float[n] x) => (float[n] y) { y = Relu(x) }"), tmp_path)
    with pytest.raises(EngineError, match="openvino refused stage 'graph'"):
        open_engine("openvino").load(replace(model, onnx=memoryview(onnx_bytes)))


@pytest.mark.parametrize(
    "text",
    [
        "g (float[n] x) => (float[n] z) { z = Relu(x) }",
        "g (float[n] w) => (float[n] y) { y = Relu(w) }",
        "g (float[n] x) => (float[n] y, float[n] z) { y = Relu(x) \n z = Exp(x) }",
    ],
    ids=["output", "input", "one more"],
)
def test_a_graph_with_other_names_than_promised(text: str, tmp_path: Path) -> None:
    model = stage_model(parse("g (float[n] x) => (float[n] y) { y = Relu(x) }"), tmp_path)
    other = memoryview(parse(text).SerializeToString())
    with pytest.raises(EngineError, match=r"the manifest promises .*, the graph has"):
        open_engine("openvino").load(replace(model, onnx=other))


def test_weights_that_are_missing(bundle: Bundle, tmp_path: Path) -> None:
    model = stage_models(bundle, "fp32")[1]
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(model.onnx)
    with pytest.raises(EngineError, match="openvino refused stage 'text'"):
        open_engine("openvino").load(replace(model, path=lambda: alone))


def test_a_device_of_static_shapes_gets_a_program_for_each_shape(tmp_path: Path) -> None:
    text = """g (float[n, 4] x, float[n, m] other) => (float[n, 4] y) { y = Softmax(x) }"""
    engine = module.OpenVinoEngine(ov.Core(), "cpu", 1, static_shapes=True)
    stage: Any = engine.load(stage_model(parse(text), tmp_path))
    assert not stage._compiled
    for rows in [*range(1, 12), 3, 11]:
        x = RANDOM.standard_normal((rows, 4)).astype(np.float32)
        powers = np.exp(x)
        got = stage.run({"x": x, "other": x[:, :3]})["y"]
        np.testing.assert_allclose(got, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)
        shapes = [compiled._compiled.inputs[0].get_partial_shape() for compiled in stage._compiled.values()]
        assert all(shape.is_static for shape in shapes)
    assert [key[0][0] for key in stage._compiled] == [5, 6, 7, 8, 9, 10, 3, 11]


def test_a_device_of_static_shapes_has_one_program_where_nothing_is_open(bundle: Bundle) -> None:
    engine = module.OpenVinoEngine(ov.Core(), "cpu", 1, static_shapes=True)
    stage: Any = engine.load(stage_models(bundle, "fp32")[0])
    assert list(stage._compiled) == [()]
    assert stage.run(PIXELS)["image_vec"].tolist() == [[0.5, 0.5, 0.5]]


@pytest.mark.parametrize("form", ["zip", "folder"])
@pytest.mark.parametrize("external", [False, True], ids=["inline", "external"])
def test_a_bundle_gives_its_goldens(form: str, external: bool, tmp_path: Path) -> None:
    found = mmedge.verify(write_bundle(tmp_path / "c.mmedge", external=external, form=form), engine="openvino")
    assert found.passed, found.reasons
    assert set(found.engines.values()) == {f"openvino {module.VERSION} on cpu"}


def test_the_built_in_bundle_gives_its_goldens() -> None:
    found = mmedge.verify(engine="openvino:cpu")
    assert found.passed, found.reasons


def test_stages_of_one_program_may_run_on_different_engines(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "c.mmedge", external=True)
    with mmedge.load(path, engine={"image": "openvino", "text": "onnxruntime:cpu", "image+text": "openvino"}) as model:
        model.set_text(["red", "blue"])
        result = model(frame_of("red"))
        assert isinstance(result, Classification)
        assert result.top[0] == "red"
        engines = {stage["name"]: stage["engine"].partition(" ")[0] for stage in model.info()["stages"]}
    assert engines == {name: "onnxruntime" if name == "text" else "openvino" for name in COLOR_STAGES}


def test_a_stage_does_not_wait_for_another_that_runs(tmp_path: Path) -> None:
    """So a frame does not wait for the text stage of new prompts."""
    layers = "\n".join(f"  x{i + 1} = MatMul(x{i}, w)" for i in range(24))
    text = f"g (float[512, 512] w, float[n, 512] x0) => (float[n, 512] x24) {{\n{layers}\n}}"
    engine = open_engine("openvino:cpu", threads=1)
    (tmp_path / "heavy").mkdir()
    heavy = engine.load(stage_model(parse(text), tmp_path / "heavy"))
    light = engine.load(stage_model(parse("g (float[n, 4] x) => (float[n, 4] y) { y = Softmax(x) }"), tmp_path))
    feeds = {"w": np.eye(512, dtype=np.float32), "x0": RANDOM.standard_normal((3000, 512)).astype(np.float32)}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(heavy.run, feeds)
        time.sleep(0.02)
        light.run({"x": FLOATS})
        waited = running.done()
        np.testing.assert_allclose(running.result()["x24"], feeds["x0"], rtol=1e-5)
    assert not waited


def test_frames_run_while_prompts_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bundle(tmp_path / "c.mmedge", external=True)
    with mmedge.load(path, engine="openvino:cpu") as model, ThreadPoolExecutor(1) as pool:
        model.set_text(["red", "blue"])
        gate = Gate(monkeypatch, "text", module.OpenVinoStage)
        setting = pool.submit(model.set_text, ["green", "red"])
        gate.wait()
        try:
            results = [model(frame_of("red")) for _ in range(3)]
        finally:
            gate.open()
        setting.result(PATIENCE_S)
        results.append(model(frame_of("red")))
    assert [result.prompt_version for result in results] == [1, 1, 1, 2]
    assert all(isinstance(result, Classification) and result.top[0] == "red" for result in results)
