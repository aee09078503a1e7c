"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def _has_cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


if not _has_cuda():
    # Where there is no GPU the kernels run in Triton's interpreter. Triton reads this when it is imported, and other
    # libraries import it, so it must be said before the first test module is collected.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own, also for the processes that they start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMEDGE_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one engine there is nothing to choose between, and no test waits for a measurement that it is not about."""
    monkeypatch.setattr("mmedge.selection.AUTO", ("onnxruntime",))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real test inputs: MMEDGE_TEST_DATA, or shared/data beside the checkout."""
    named = os.environ.get("MMEDGE_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test inputs at {folder}; set MMEDGE_TEST_DATA to the folder that holds them")
    return folder
