"""The prompt compiler on a torch module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.compiled import Compiled
from torch import nn

Compile = Callable[..., Compiled]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Trace, prepare and compile a module."""

    def make(module: nn.Module, **options: Any) -> Compiled:
        torch.manual_seed(0)
        return Compiled(module, tmp_path, **options)

    return make
