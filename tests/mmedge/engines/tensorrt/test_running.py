"""Running engines on stand-ins for TensorRT and the GPU: results, shapes, memory, graphs, and what is refused."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from support import engine_stand_in
from support.gpu_stand_in import Gpu

from mmedge.bundle import Cost, Stage, TensorSpec
from mmedge.engines.tensorrt.device import Device, DeviceArray
from mmedge.engines.tensorrt.library import open_library
from mmedge.engines.tensorrt.lifetime import native_call
from mmedge.engines.tensorrt.running import TensorRtStage
from mmedge.errors import EngineError

SCALE = """
scale (float[n, 3] x, float[n, 3] y) => (float[n, 3] z, float[n] total) <int64[1] one = {1}> {
  z = Mul(x, y)
  total = ReduceSum<keepdims = 0>(z, one)
}
"""
LARGE = """
large (float[n, 3] x) => (int64[2, found] where) <float limit = {0.5}> {
  more = Greater(x, limit)
  where = NonZero(more)
}
"""
DOUBLE = "double (double[n, 3] x) => (double[n, 3] z) { z = Add(x, x) }"
SIZED = "sized (float[n, 3] x, int64[2] to) => (float[a, b] z) { z = Reshape(x, to) }"


def random(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def load(device: Device, text: str, **changes: Any) -> TensorRtStage:
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]>\n{text}')
    values = {
        kind: tuple(
            TensorSpec(
                value.name,
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim),
            )
            for value in getattr(model.graph, kind[:-1])
        )
        for kind in ("inputs", "outputs")
    }
    stage = Stage(**{"name": "s", "label": ("image",), "files": {"fp32": "s"}, "cost": Cost(0, 0), **values, **changes})
    return TensorRtStage(open_library("tensorrt"), device, stage, model.SerializeToString())


def test_results_are_new_arrays_and_the_stage_says_what_it_runs_on(device: Device) -> None:
    stage = load(device, SCALE)
    assert (stage.engine, stage.provider, stage.fallbacks) == ("tensorrt 10.9.0", "cuda sm_89", ())
    x, y = random(4, 3), random(4, 3, seed=1)
    first = stage.run({"x": x, "y": y})
    kept = first["z"].copy()
    second = stage.run({"x": x + 1, "y": y})
    np.testing.assert_allclose(first["z"], x * y, rtol=1e-6)
    np.testing.assert_array_equal(first["z"], kept)
    np.testing.assert_allclose(second["z"], (x + 1) * y, rtol=1e-6)
    np.testing.assert_allclose(second["total"], ((x + 1) * y).sum(1), rtol=1e-5)


@pytest.mark.parametrize(
    ("captures", "launches"), [(True, True), (False, True), (True, False)], ids=["graphs", "no-graphs", "dead-graphs"]
)
def test_shapes_may_change_at_every_run(gpu: Gpu, device: Device, captures: bool, launches: bool) -> None:
    gpu.captures, gpu.launches = captures, launches
    stage = load(device, SCALE)
    for seed, n in enumerate([1, 5, 5, 5, 63, 2, 2, 64, 64, 5]):
        x, y = random(n, 3, seed=seed), random(n, 3, seed=seed + 100)
        result = stage.run({"x": x, "y": y})
        np.testing.assert_allclose(result["z"], x * y, rtol=1e-6)
        assert result["total"].shape == (n,)


def test_a_run_is_recorded_when_its_shapes_come_back_and_forgotten_when_they_change(gpu: Gpu, device: Device) -> None:
    stage = load(device, SCALE)
    for n in (4, 4, 4, 4, 6):
        stage.run({"x": random(n, 3), "y": random(n, 3)})
    asked = [call for call in gpu.calls if call in ("execute", "capture", "launch graph", "forget graph")]
    assert asked == [
        "execute",
        "capture", "execute", "launch graph", "launch graph", "launch graph",
        "forget graph", "execute",
    ]  # fmt: skip


def test_without_cuda_bindings_nothing_is_recorded(gpu: Gpu, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    stage = load(device, SCALE)
    for seed in range(3):
        x = random(4, 3, seed=seed)
        np.testing.assert_allclose(stage.run({"x": x, "y": x})["z"], x * x, rtol=1e-6)
    assert "capture" not in gpu.calls


def test_results_stay_on_the_device_for_the_next_stage(gpu: Gpu, device: Device) -> None:
    first, second = load(device, SCALE), load(device, DOUBLE.replace("double[", "float["))
    x, y = random(4, 3), random(4, 3, seed=1)
    held = first.run_on_device({"x": x, "y": y})
    again = first.run_on_device({"x": y, "y": y})
    gpu.calls.clear()
    result = second.run({"x": held["z"]})
    assert gpu.calls == ["within", "execute", "to host", "synchronize"]
    np.testing.assert_allclose(result["z"], 2 * x * y, rtol=1e-6)
    # What was handed out is not overwritten by a later run.
    np.testing.assert_allclose(held["z"].numpy(), x * y, rtol=1e-6)
    np.testing.assert_allclose(again["total"].numpy(), (y * y).sum(1), rtol=1e-5)
    assert held["z"].shape == (4, 3)
    assert held["z"].dtype == np.float32


def test_memory_is_given_back(gpu: Gpu, device: Device) -> None:
    stage = load(device, SCALE)
    for n in (4, 4, 9, 4):
        kept = stage.run_on_device({"x": random(n, 3), "y": random(n, 3)})
    del kept
    bound = gpu.allocations
    assert bound == 4  # two inputs and two outputs of the shapes that came last
    del stage
    assert gpu.allocations == 0


def test_a_stage_that_goes_while_the_library_works_goes_afterwards(gpu: Gpu, device: Device) -> None:
    stage = load(device, SCALE)
    stage.run({"x": random(2, 3), "y": random(2, 3)})
    with native_call():
        with native_call():
            del stage
        assert gpu.allocations == 4
    assert gpu.allocations == 0


def test_outputs_whose_size_is_computed(device: Device) -> None:
    stage = load(device, LARGE)
    for seed in range(4):
        x = random(7, 3, seed=seed)
        held = stage.run_on_device({"x": x})["where"]
        np.testing.assert_array_equal(stage.run({"x": x})["where"], np.array(np.nonzero(x > 0.5)))
        np.testing.assert_array_equal(held.numpy(), np.array(np.nonzero(x > 0.5)))
    assert stage.run({"x": np.zeros((2, 3), np.float32)})["where"].shape == (2, 0)


def test_doubles_are_narrowed_and_widened_again(device: Device) -> None:
    result = load(device, DOUBLE).run({"x": np.full((2, 3), 0.1)})
    assert result["z"].dtype == np.float64
    np.testing.assert_allclose(result["z"], 0.2, rtol=1e-7)


def test_views_and_numbers_of_other_layouts(device: Device) -> None:
    stage = load(device, SCALE)
    x = random(3, 8)[:, ::2].T
    np.testing.assert_allclose(stage.run({"x": x, "y": x})["z"], x * x, rtol=1e-6)


def test_threads_take_turns(device: Device) -> None:
    stage = load(device, SCALE)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in range(20):
            x = random(1 + (seed + i) % 3, 3, seed=seed * 100 + i)
            if not np.allclose(stage.run({"x": x, "y": x})["z"], x * x):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"x": random(2, 3)}, "needs 'y', got x"),
        ({"x": random(2, 3).astype(np.int64), "y": random(2, 3)}, "'x' must be float32, got int64"),
        (
            {"x": random(2, 4), "y": random(2, 3)},
            r"failed on x float32 \[2, 4\].*mismatch for x.*\[1, 3\] to \[64",
        ),
        ({"x": random(65, 3), "y": random(65, 3)}, "failed on x float32"),
        ({"x": random(3), "y": random(2, 3)}, "failed on x float32"),
    ],
    ids=["missing", "dtype", "static-size", "beyond-the-range", "rank"],
)
def test_what_does_not_fit_is_refused_and_the_stage_lives_on(
    device: Device, feeds: dict[str, Any], message: str
) -> None:
    stage = load(device, SCALE)
    x = random(2, 3)
    for _ in range(2):
        with pytest.raises(EngineError, match=message):
            stage.run(feeds)
        np.testing.assert_allclose(stage.run({"x": x, "y": x})["z"], x * x, rtol=1e-6)


def test_a_plan_that_does_not_load(device: Device) -> None:
    stage = Stage("s", ("image",), {"fp32": "s"}, (), (), Cost(0, 0))
    with pytest.raises(EngineError, match=r"not load the plan of stage 's': Serialization assertion failed: magic"):
        TensorRtStage(open_library("tensorrt"), device, stage, b"no plan")


def test_a_plan_of_another_stage(device: Device) -> None:
    with pytest.raises(EngineError, match=r"takes \['x', 'y'\].*of another stage"):
        load(device, SCALE, inputs=(TensorSpec("x", "float32", ("n", 3)),))


def test_types_that_numpy_lacks(device: Device) -> None:
    with pytest.raises(EngineError, match=r"'x' is BF16, which numpy does not have"):
        load(device, "half (bfloat16[n, 3] x) => (float[n, 3] z) { z = Cast<to = 1>(x) }", inputs=())


def test_inputs_that_set_shapes_are_read_on_the_host(gpu: Gpu, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", engine_stand_in.module(gpu, host=["to"]))
    stage = load(device, SIZED)
    x = random(4, 3)
    for shape in ((2, 6), (2, 6), (2, 6), (12, 1), (3, 4)):
        to = np.array(shape)
        np.testing.assert_array_equal(stage.run({"x": x, "to": to})["z"], x.reshape(shape))
        to[:] = 0


def test_sizes_on_the_host_that_leave_a_stage(gpu: Gpu, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", engine_stand_in.module(gpu, host=["total"]))
    with pytest.raises(EngineError, match="gives total as sizes on the host"):
        load(device, SCALE)


def test_an_error_of_the_driver_is_typed(gpu: Gpu, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = load(device, SCALE)
    driver = sys.modules["pycuda.driver"]

    def fail(size: int) -> Any:
        raise driver.Error("cuMemAlloc failed:\n out of memory")

    monkeypatch.setattr(driver, "mem_alloc", fail)
    with pytest.raises(EngineError, match="the GPU failed: cuMemAlloc failed: out of memory"):
        stage.run({"x": random(2, 3), "y": random(2, 3)})


def test_no_such_gpu(gpu: Gpu) -> None:
    with pytest.raises(EngineError, match="there is no GPU 3 that works: invalid device ordinal"):
        Device(3)


def test_without_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(EngineError, match=r"needs PyCUDA.*pip install pycuda"):
        Device()


def test_arrays_of_another_gpu_come_over_the_host(gpu: Gpu, device: Device) -> None:
    stage = load(device, SCALE)
    other = Device()
    with other.active():
        array = DeviceArray(other, (2, 3), np.dtype(np.float32))
        other.put(array, random(2, 3))
    np.testing.assert_allclose(stage.run({"x": array, "y": random(2, 3)})["z"], random(2, 3) ** 2, rtol=1e-6)  # type: ignore[dict-item]
