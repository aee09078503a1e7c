"""Random problems for `prompt_attention`, and poisoned memory for its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory is full of NaN, so that an element that no kernel writes is seen."""
    empty = torch.empty

    def filled(*args: Any, **kwargs: Any) -> Tensor:
        memory = empty(*args, **kwargs)
        return memory.fill_(float("nan")) if memory.is_floating_point() else memory

    monkeypatch.setattr(torch, "empty", filled)


@pytest.fixture
def problem(device: str) -> Callable[..., dict[str, Any]]:
    """Sizes -> random arguments of `prompt_attention` in float32, matrices scaled so that scores are of order one."""

    def make(
        seed: int, b: int, m: int, d: int, e: int, heads: int, keys: int, prompts: int | None = None
    ) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device)

        many = () if prompts is None else (prompts,)
        matrix = random(*many, d, heads * keys) * 2 * d**-0.5
        return {
            "x": random(b, m, d),
            "a_matrix": matrix - matrix.mean(-2, keepdim=True),
            "a_bias": random(*many, heads * keys),
            "b_matrix": random(*many, heads * keys, e) * heads**-0.5,
            "c_bias": random(e),
            "heads": heads,
        }

    return make
