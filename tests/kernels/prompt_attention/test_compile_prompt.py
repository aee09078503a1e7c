"""A compiled prompt gives what the block gave that it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mmedge_kernels.errors import TensorError
from mmedge_kernels.prompt_attention import compile_keys_values, compile_prompt, prompt_attention

EPS = 1e-5


@dataclass
class Block:
    """Pre-norm cross-attention with a residual, as models write it, in float64."""

    weights: dict[str, Tensor | None]
    heads: int
    norm: tuple[Tensor, Tensor] | None
    scale: float | None

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """[..., L, C] -> keys and values [..., K, L, d]."""
        head_dim = self.weights["wq"].shape[0] // self.heads
        projected = [self._linear(context, part).unflatten(-1, (-1, head_dim)) for part in "kv"]
        return projected[0].transpose(-2, -3), projected[1].transpose(-2, -3)

    def __call__(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, M, D], context [L, C] or [N, L, C] -> [B, M, E] or [B, N, M, E]."""
        rows = x
        if self.norm is not None:
            rows = torch.nn.functional.layer_norm(x, x.shape[-1:], *self.norm, EPS)
        if context.ndim == 3:
            rows = rows[:, None]
        query = self._linear(rows, "q").unflatten(-1, (self.heads, -1)).transpose(-2, -3)
        keys, values = self.keys_values(context)
        repeats = self.heads // keys.shape[-3]
        keys, values = keys.repeat_interleave(repeats, -3), values.repeat_interleave(repeats, -3)
        scores = query @ keys.transpose(-1, -2) * (query.shape[-1] ** -0.5 if self.scale is None else self.scale)
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None, None, :], -torch.inf)
        mixed = (torch.softmax(scores, -1) @ values).transpose(-2, -3).flatten(-2)
        return self._linear(mixed, "o") + (x[:, None] if context.ndim == 3 else x)

    def _linear(self, x: Tensor, part: str) -> Tensor:
        bias = self.weights[f"b{part}"]
        out = x @ self.weights[f"w{part}"].T
        return out if bias is None else out + bias


def random_case(seed: int) -> tuple[Block, Tensor, Tensor, Tensor | None]:
    """A block, x [B, M, D], context and mask, every choice drawn from the seed."""
    g = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=g))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def chance() -> bool:
        return number(0, 1) == 1

    key_heads, repeats, head_dim = number(1, 4), number(1, 3), number(1, 24)
    heads = key_heads * repeats
    d, c, length, inner = number(2, 90), number(1, 40), number(1, 30), heads * head_dim
    sizes = {"q": (inner, d), "k": (key_heads * head_dim, c), "v": (key_heads * head_dim, c), "o": (d, inner)}
    weights: dict[str, Tensor | None] = {}
    for part, (rows, columns) in sizes.items():
        weights[f"w{part}"] = normal(rows, columns) * columns**-0.5
        weights[f"b{part}"] = normal(rows) if chance() else None
    norm = (normal(d), normal(d)) if chance() else None
    block = Block(weights, heads, norm, 0.1 + number(0, 9) / 10 if chance() else None)
    many = (number(1, 3),) if chance() else ()
    x, context = normal(number(1, 2), number(1, 40), d) + number(-2, 2), normal(*many, length, c)
    mask = torch.rand(*many, length, generator=g) < 0.7 if chance() else None
    if mask is not None:
        mask[..., 0] = True  # a block whose softmax is over nothing gives NaN, and has no value to be equal to
    return block, x, context, mask


@pytest.mark.parametrize("seed", range(50))
def test_equals_the_block(seed):
    block, x, context, mask = random_case(seed)
    expected = block(x, context, mask)
    single = {name: None if value is None else value.float() for name, value in block.weights.items()}
    norm = None if block.norm is None else (block.norm[0].float(), block.norm[1].float())
    pad_to = context.shape[-2] + seed % 7 if seed % 3 == 0 else None
    compiled = compile_prompt(
        context.float(), **single, heads=block.heads, norm=norm, scale=block.scale, mask=mask, pad_to=pad_to
    )
    options = {"heads": block.heads, "residual": x.float(), "norm_eps": None if norm is None else EPS}
    for implementation in ("reference", "triton"):
        got = prompt_attention(x.float(), *compiled, **options, implementation=implementation)
        assert (got - expected).norm() / expected.norm() <= 1e-5


@pytest.mark.parametrize("seed", range(50, 56))
def test_keys_and_values_instead_of_features(seed):
    block, _, context, mask = random_case(seed)
    shared = {"heads": block.heads, "norm": block.norm, "scale": block.scale, "mask": mask}
    keys, values = block.keys_values(context)
    inner = {name: block.weights[name] for name in ("wq", "bq", "wo", "bo")}
    for one, other in zip(
        compile_prompt(context, **block.weights, **shared),
        compile_keys_values(keys, values, **inner, **shared),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_half_precision_matrices_keep_single_precision_biases():
    block, _, context, _ = random_case(7)
    half = {name: None if value is None else value.half() for name, value in block.weights.items()}
    compiled = compile_prompt(context.half(), **half, heads=block.heads)
    assert [part.dtype for part in compiled] == [torch.float16, torch.float32, torch.float16, torch.float32]


def test_nothing_under_the_mask_matters():
    block, _, context, _ = random_case(11)
    mask = torch.arange(context.shape[-2]) % 2 == 0
    mask = mask.expand(context.shape[:-1])
    hidden = context.masked_fill(~mask[..., None], torch.nan)
    arguments = {**block.weights, "heads": block.heads, "norm": block.norm, "mask": mask}
    for one, other in zip(compile_prompt(context, **arguments), compile_prompt(hidden, **arguments), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_gradients_reach_the_projections():
    block, x, context, mask = random_case(3)
    names = [name for name, value in block.weights.items() if value is not None]
    for name in names:
        block.weights[name].requires_grad_()
    upstream = torch.randn_like(block(x, context, mask))
    expected = torch.autograd.grad(block(x, context, mask), [block.weights[name] for name in names], upstream)
    compiled = compile_prompt(
        context, **block.weights, heads=block.heads, norm=block.norm, scale=block.scale, mask=mask
    )
    out = prompt_attention(x, *compiled, heads=block.heads, residual=x, norm_eps=None if block.norm is None else EPS)
    for one, other in zip(torch.autograd.grad(out, [block.weights[n] for n in names], upstream), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


D, C, L, H, INNER = 12, 7, 5, 3, 6
GOOD = {
    "context": torch.zeros(L, C),
    "wq": torch.zeros(INNER, D),
    "bq": torch.zeros(INNER),
    "wk": torch.zeros(INNER, C),
    "bk": torch.zeros(INNER),
    "wv": torch.zeros(INNER, C),
    "bv": torch.zeros(INNER),
    "wo": torch.zeros(D, INNER),
    "bo": torch.zeros(D),
    "heads": H,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": torch.zeros(L)}, r"context must have 2 or 3 dimensions \[L, C\]"),
        ({"context": torch.zeros(L, C + 1)}, r"wk must be \[K \* d, C\] with C = 8, got \[6, 7\]"),
        ({"context": torch.zeros(0, C)}, "context .* no dimension of size 0"),
        ({"context": torch.zeros(L, C, dtype=torch.int64)}, "context must be .*float32.* got int64"),
        ({"heads": 4}, "heads must be a whole number that divides wq's 6 rows, got 4"),
        ({"heads": 0}, "heads must be"),
        ({"wk": torch.zeros(INNER - 1, C), "bk": None}, "a multiple of d = 2 rows"),
        ({"wk": torch.zeros(4, C), "bk": None}, r"keys and values must have one shape"),
        ({"wk": torch.zeros(4, C), "wv": torch.zeros(4, C), "bk": None, "bv": None}, "3 heads a multiple of K"),
        ({"bk": torch.zeros(INNER + 1)}, r"bk must be \[6\], got \[7\]"),
        ({"bq": torch.zeros(2)}, r"bq must be \[6\], got \[2\]"),
        ({"wo": torch.zeros(D, INNER + 2)}, r"wo must be \[E, H \* d\] with H \* d = 6"),
        ({"wo": torch.zeros(D, INNER, dtype=torch.float16)}, "wo must be float32, got float16"),
        ({"bo": torch.zeros(D + 1)}, r"bo must be \[12\], got \[13\]"),
        ({"norm": torch.zeros(D)}, r"norm must be \(weight, bias\)"),
        ({"norm": (torch.zeros(D), torch.zeros(D - 1))}, r"norm bias must be \[12\], got \[11\]"),
        ({"mask": torch.ones(L)}, "mask must be bool, got float32"),
        (
            {"mask": torch.ones(L + 1, dtype=torch.bool)},
            r"mask must be .* for keys \[3, 5, 2\], got \[6\]",
        ),
        ({"mask": torch.ones(2, L, dtype=torch.bool)}, r"mask must be \[L\]"),
        ({"pad_to": L - 1}, "pad_to must be a whole number of at least L = 5, got 4"),
        ({"scale": float("inf")}, "scale must be a finite number"),
        ({"wq": "weights"}, "wq must be a torch.Tensor"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_does_not_fit(change, message):
    with pytest.raises(TensorError, match=message):
        compile_prompt(**{**GOOD, **change})
