"""Libraries and a GPU for the tests of the TensorRT engine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import engine_stand_in
from support.gpu_stand_in import Gpu

from mmedge.engines.tensorrt.device import Device
from mmedge.engines.tensorrt.library import Library, open_library


@pytest.fixture
def rtx() -> Library:
    """The real TensorRT-RTX, which builds without a GPU."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs")
    return open_library("tensorrt_rtx")


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMEDGE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """A GPU, its drivers and a `tensorrt` that runs on it, all stand-ins."""
    made = Gpu()
    pycuda = ModuleType("pycuda")
    driver = made.pycuda()
    monkeypatch.setattr(pycuda, "driver", driver, raising=False)
    monkeypatch.setitem(sys.modules, "pycuda", pycuda)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", ModuleType("cuda.bindings"))
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", made.cuda_bindings())
    monkeypatch.setitem(sys.modules, "tensorrt", engine_stand_in.module(made))
    return made


@pytest.fixture
def device(gpu: Gpu) -> Device:
    return Device()
