"""Where the kernels are tested: on the GPU where there is one, else in Triton's interpreter on the CPU."""

from __future__ import annotations

import os

import pytest
from support.interpreter import repair_bfloat16_products

HAS_CUDA = os.environ.get("TRITON_INTERPRET") != "1"  # as tests/conftest.py found it
if not HAS_CUDA:
    repair_bfloat16_products()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not HAS_CUDA and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture(scope="session")
def device() -> str:
    """The device of test tensors: "cuda" where there is a GPU, else "cpu"."""
    return "cuda" if HAS_CUDA else "cpu"
