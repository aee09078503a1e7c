"""Where the kernels are tested: on the GPU where there is one, else in Triton's interpreter on the CPU."""

from __future__ import annotations

import os

import pytest
from support.interpreter import repair_bfloat16_products


def _has_cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


HAS_CUDA = _has_cuda()
if not HAS_CUDA:
    # Triton reads it when a kernel's module is imported, so it must be set before any test module is.
    os.environ["TRITON_INTERPRET"] = "1"
    repair_bfloat16_products()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not HAS_CUDA and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture(scope="session")
def device() -> str:
    """The device of test tensors: "cuda" where there is a GPU, else "cpu"."""
    return "cuda" if HAS_CUDA else "cpu"
