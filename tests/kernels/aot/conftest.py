"""Modules with kernels and what goes wrong with them, for the processes that compile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.kernel_specs import small_kernels_importable


@pytest.fixture(autouse=True)
def importable() -> Iterator[None]:
    with small_kernels_importable():
        yield


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a module called ``broken`` that the processes that compile can import."""

    def write(source: str) -> None:
        (tmp_path / "broken.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ["PYTHONPATH"])))

    return write
