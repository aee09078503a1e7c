"""Packs that are put together by hand, and a driver that launches nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.pack_entries import CUBIN, PTX, pack_entry
from support.pycuda_stand_in import Driver


@pytest.fixture
def make_pack(tmp_path: Path) -> Callable[..., Path]:
    """kernels, changes of pack.json -> the folder of a pack with them."""

    def make(*kernels: dict[str, Any], **changes: Any) -> Path:
        folder = tmp_path / "pack"
        folder.mkdir()
        (folder / "pack.json").write_text(json.dumps(pack_entry(*kernels, **changes)))
        for kernel in kernels:
            (folder / kernel["cubin"]["file"]).write_bytes(CUBIN)
            if kernel["ptx"] is not None:
                (folder / kernel["ptx"]["file"]).write_bytes(PTX)
        return folder

    return make


@pytest.fixture
def use_driver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Driver]:
    """Puts a recording stand-in in the place of `pycuda.driver`."""

    def use(**settings: Any) -> Driver:
        driver, package = Driver(**settings), ModuleType("pycuda")
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
        return driver

    return use
