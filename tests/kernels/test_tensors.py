"""Checks of tensors, and which implementation runs where; GPUs that are not here are stood in for."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from mmedge_kernels import tensors
from mmedge_kernels.errors import ImplementationError, TensorError
from mmedge_kernels.tensors import check_shape, check_tensor, choose_implementation

FLOATS = (torch.float16, torch.float32)


@pytest.fixture
def gpu(monkeypatch):
    """dtype, compute capability -> something that looks like a tensor on an NVIDIA GPU."""
    monkeypatch.setattr(tensors, "triton_interprets", lambda: False)
    monkeypatch.setattr(torch.version, "hip", None)

    def make(dtype=torch.float16, capability=(8, 7)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        return SimpleNamespace(dtype=dtype, is_cuda=True, device=torch.device("cuda", 0))

    return make


def both(tensor):
    """What "auto" takes, and the message of a forced Triton, if it cannot run."""
    chosen = choose_implementation("auto", tensor)
    try:
        return chosen, choose_implementation("triton", tensor)
    except (ImplementationError, TensorError) as error:
        return chosen, f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_gpu_takes_triton(gpu, dtype):
    assert both(gpu(dtype)) == ("triton", "triton")
    assert choose_implementation("reference", gpu(dtype)) == "reference"


@pytest.mark.parametrize(
    ("dtype", "capability", "message"),
    [
        (torch.float16, (7, 0), "ImplementationError: float16 needs compute capability 7.5, the GPU has 7.0"),
        (torch.bfloat16, (7, 5), "ImplementationError: bfloat16 needs compute capability 8.0, the GPU has 7.5"),
        (torch.float64, (9, 0), "TensorError: the Triton kernels take float16, bfloat16, float32, got float64"),
    ],
)
def test_what_a_gpu_cannot_do(gpu, dtype, capability, message):
    chosen, forced = both(gpu(dtype, capability))
    assert chosen == "reference"
    assert forced.startswith(message)


def test_rocm_takes_the_reference(gpu, monkeypatch):
    tensor = gpu()
    monkeypatch.setattr(torch.version, "hip", "6.4")
    chosen, forced = both(tensor)
    assert chosen == "reference"
    assert "got a tensor on ROCm" in forced


def test_without_triton(gpu, monkeypatch):
    monkeypatch.setattr(tensors, "_triton", lambda: None)
    chosen, forced = both(gpu())
    assert chosen == "reference"
    assert forced == "ImplementationError: Triton cannot be imported; install it with: pip install 'triton>=3.6'"


def test_a_cpu_tensor(monkeypatch):
    for interprets, forced in ((True, "triton"), (False, "ImplementationError: the Triton kernels run on NVIDIA GPUs")):
        monkeypatch.setattr(tensors, "triton_interprets", lambda interprets=interprets: interprets)
        chosen, found = both(torch.zeros(1))
        assert chosen == "reference"
        assert found.startswith(forced)


@pytest.mark.parametrize("name", ["Triton", "cuda", "", None])
def test_unknown_names(name):
    with pytest.raises(TensorError, match='must be "auto", "triton" or "reference", got'):
        choose_implementation(name, torch.zeros(1))


@pytest.mark.parametrize(
    ("tensor", "ndim", "message"),
    [
        ([1.0], 1, r"x must be a torch\.Tensor \[M\], got list"),
        (torch.zeros(2, 3), 1, r"x must have 1 dimensions \[M\], got shape \[2, 3\]"),
        (torch.zeros(()), (1, 2), r"x must have 1 or 2 dimensions \[M\], got shape \[\]"),
        (torch.zeros(3).double(), 1, "x must be float16 or float32, got float64"),
        (torch.zeros(3, device="meta"), 1, "x must be on cpu like the first tensor, got meta"),
        (torch.zeros(0), 1, r"x \[M\] must have no dimension of size 0, got shape \[0\]"),
    ],
)
def test_bad_tensors(tensor, ndim, message):
    with pytest.raises(TensorError, match=message):
        check_tensor("x", tensor, "[M]", ndim, FLOATS, torch.device("cpu"))


def test_good_tensors():
    check_tensor("x", torch.zeros(3), "[M]", 1, FLOATS)
    check_tensor("x", torch.zeros(3, 1).half(), "[M, D]", (1, 2), FLOATS, torch.device("cpu"))
    check_shape("x", torch.zeros(3, 1), "[M, D]", (3, (1, 5)))
    check_shape("x", torch.zeros(3, 5), "[M, D]", (3, (1, 5)))


def test_bad_shapes():
    with pytest.raises(TensorError, match=r"x must have shape \[M, D\] = \[3, 1 or 5\], got \[3, 4\]"):
        check_shape("x", torch.zeros(3, 4), "[M, D]", (3, (1, 5)))


def test_the_interpreter_as_it_comes_is_refused_for_bfloat16() -> None:
    code = (
        "import torch\n"
        "from mmedge_kernels.errors import ImplementationError\n"
        "from mmedge_kernels.tensors import choose_implementation\n"
        "print(choose_implementation('triton', torch.zeros(1)))\n"
        "try:\n    print(choose_implementation('triton', torch.zeros(1, dtype=torch.bfloat16)))\n"
        "except ImplementationError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[0] == "triton"
    assert "multiplies bfloat16 wrongly" in done.stdout
