"""Random problems for `cross_attention`, what they should give in float64, and poisoned memory for results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from mmedge_kernels.cross_attention import cross_attention, reference, tiles

BOUNDS = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Largest relative error in norm. A rounding to bfloat16 costs up to 2**-8, and Triton's interpreter cuts off instead
of rounding, which doubles it."""


@dataclass
class Problem:
    """Arguments of `cross_attention`, by name; leaves that want gradients."""

    arguments: dict[str, Any]

    @property
    def leaves(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.arguments.items() if getattr(value, "requires_grad", False)}

    @property
    def scale(self) -> float:
        scale = self.arguments.get("scale")
        return self.arguments["q"].shape[-1] ** -0.5 if scale is None else scale

    def exact(self) -> dict[str, Any]:
        """The arguments of the reference in float64, as leaves of a graph of their own."""
        mask, bias = self.arguments.get("key_mask"), self.arguments.get("bias")
        wide = {name: self.arguments[name].detach().double().requires_grad_() for name in ("q", "k", "v")}
        wide |= {"key_mask": mask, "bias": None if bias is None else bias.detach().double().requires_grad_()}
        return wide | {"scale": self.scale}


@pytest.fixture
def problem(device: str) -> Callable[..., Problem]:
    """Sizes -> random arguments. kv: batch of k and v. mask: batch of the mask or None. bias: its shape or None."""

    def make(
        b: int,
        h: int,
        m: int,
        length: int,
        d: int,
        *,
        kv: int | None = None,
        mask: int | None = None,
        bias: tuple[int, ...] | None = None,
        dtype: torch.dtype = torch.float32,
        grad: bool = False,
        **others: Any,
    ) -> Problem:
        kv = b if kv is None else kv
        shapes = {"q": (b, h, m, d), "k": (kv, h, length, d), "v": (kv, h, length, d)}
        if bias is not None:
            shapes["bias"] = bias
        arguments: dict[str, Any] = {
            name: torch.randn(shape, device=device).to(dtype).requires_grad_(grad) for name, shape in shapes.items()
        }
        if mask is not None:
            arguments["key_mask"] = torch.rand(mask, length, device=device) < 0.6
        return Problem(arguments | others)

    return make


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """Fresh memory is full of NaN, and what torch adds up must be deterministic."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=["tensor-cores", "multiply-add"])
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiles for GPUs with and without tensor cores, whatever the dtype: so both are tested in float32."""
    monkeypatch.setattr(tiles, "_has_tensor_cores", lambda dtype, sm: request.param == "tensor-cores")
    return request.param


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative error in norm, absolute where the expected value is zero throughout."""
    norm = expected.norm().item()
    return (found.double() - expected).norm().item() / (norm if norm > 0 else 1.0)


@pytest.fixture
def check() -> Callable[..., Tensor]:
    """Problem -> output of the kernels, compared with the reference in float64."""

    def compare(made: Problem, implementation: str = "triton") -> Tensor:
        out = cross_attention(**made.arguments, implementation=implementation)
        expected, _ = reference.forward(**made.exact())
        assert out.shape == expected.shape
        assert out.dtype == made.arguments["q"].dtype
        assert distance(out, expected) <= BOUNDS[out.dtype]
        return out

    return compare


@pytest.fixture
def check_gradients() -> Callable[..., None]:
    """Problem -> gradients of the kernels, compared with torch's own through the reference in float64."""

    def compare(made: Problem, implementation: str = "triton", bound: float | None = None) -> None:
        out = cross_attention(**made.arguments, implementation=implementation)
        upstream = torch.randn_like(out)
        leaves = made.leaves
        found = torch.autograd.grad(out, list(leaves.values()), upstream)
        exact = made.exact()
        expected_out, _ = reference.forward(**exact)
        expected = torch.autograd.grad(expected_out, [exact[name] for name in leaves], upstream.double())
        # Gradients of q, k and bias are differences of terms as large as the gradient of v. Where a softmax is nearly
        # sure they all but cancel, and what is left is known only as exactly as the terms are.
        terms = 0.2 * torch.stack([gradient.norm() for gradient in expected]).norm().item()
        for (name, leaf), mine, theirs in zip(leaves.items(), found, expected, strict=True):
            assert mine.dtype == leaf.dtype, name
            error = (mine.double() - theirs).norm().item()
            assert error <= (bound or BOUNDS[out.dtype]) * max(theirs.norm().item(), terms), name

    return compare
