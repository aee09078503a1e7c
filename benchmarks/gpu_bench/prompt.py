"""`prompt_attention` against the block it stands for: LayerNorm, projection, attention to cached keys, projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

from gpu_bench.attention import BOUNDS, DTYPES, KEYS, ROWS
from gpu_bench.timing import Case
from mmedge_kernels.prompt_attention import CompiledPrompt, compile_prompt, launch, prompt_attention
from mmedge_kernels.prompt_attention.tiles import Tiles, choose_tiles

WIDTH, HEADS, EPS = 768, 12, 1e-5


def cases(device: str, rehearse: bool) -> Iterator[Case]:
    """One for each number of rows, prompt length and dtype; batch 1 and 8."""
    rows, keys, batches = ((5,), (3,), (2,)) if rehearse else (ROWS, (4, 8, *KEYS[1:]), (1, 8))
    for dtype in DTYPES[:1] if rehearse else DTYPES:  # the interpreter multiplies bfloat16 wrongly
        for batch in batches:
            for m in rows:
                for length in keys:
                    yield prompt_case(device, dtype, batch, m, length, rehearse)


def prompt_case(device: str, dtype: torch.dtype, batch: int, m: int, length: int, rehearse: bool) -> Case:
    block = Block(device, dtype, 48 if rehearse else WIDTH, length)
    x = torch.randn(batch, m, block.width, device=device).to(dtype)
    paths: dict[str, Callable[[], torch.Tensor]] = {
        "prompt_attention": lambda: prompt_attention(
            x, *block.compiled, heads=HEADS, residual=x, norm_eps=EPS, implementation="triton"
        ),
        "eager": lambda: block(x),
    }
    if not rehearse:
        compiled = torch.compile(block.__call__, dynamic=False)
        paths["torch.compile"] = lambda: compiled(x)
        paths |= _other_tiles(x, block.compiled, length, matrix_units=torch.cuda.get_device_capability()[0] >= 8)
    columns, rows = HEADS * length, batch * m
    return Case(
        name="prompt_attention",
        sizes={"dtype": str(dtype).removeprefix("torch."), "B": batch, "M": m, "L": length, "D": block.width},
        paths=paths,
        reference=lambda: block.exact(x),
        operations=4.0 * rows * columns * block.width,
        bytes=x.element_size() * (3.0 * rows * block.width + 2.0 * columns * block.width),
        bound=BOUNDS[dtype],
    )


class Block:
    """Pre-norm cross-attention with a residual and cached keys and values, random weights."""

    def __init__(self, device: str, dtype: torch.dtype, width: int, length: int) -> None:
        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device=device).mul(shape[-1] ** -0.5).to(dtype)

        self.width = width
        self.w: dict[str, Any] = {name: normal(width, width) for name in ("wq", "wk", "wv", "wo")}
        self.b: dict[str, Any] = {name: normal(width) for name in ("bq", "bk", "bv", "bo")}
        self.gamma, self.beta = 1 + normal(width), normal(width)
        self.context = torch.randn(length, width, device=device).to(dtype)
        self.keys, self.values = (
            self._split(linear(self.context, self.w[f"w{part}"], self.b[f"b{part}"])) for part in "kv"
        )
        self.compiled: CompiledPrompt = compile_prompt(
            self.context, **self.w, **self.b, heads=HEADS, norm=(self.gamma, self.beta)
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        query = self._split(linear(layer_norm(x, x.shape[-1:], self.gamma, self.beta, EPS), self.w["wq"], self.b["bq"]))
        keys, values = (part.expand(x.shape[0], -1, -1, -1) for part in (self.keys, self.values))
        mixed = scaled_dot_product_attention(query, keys, values)
        asked: torch.Tensor = linear(mixed.transpose(-2, -3).flatten(-2), self.w["wo"], self.b["bo"])
        return x + asked

    def exact(self, x: torch.Tensor) -> torch.Tensor:
        """The same in float64, from the same rounded weights."""
        double: dict[str, Any] = {name: part.double() for name, part in (*self.w.items(), *self.b.items())}
        rows = layer_norm(x.double(), x.shape[-1:], self.gamma.double(), self.beta.double(), EPS)
        query = self._split(linear(rows, double["wq"], double["bq"]))
        keys, values = (self._split(linear(self.context.double(), double[f"w{p}"], double[f"b{p}"])) for p in "kv")
        mixed = torch.softmax(query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5, -1) @ values
        asked: torch.Tensor = linear(mixed.transpose(-2, -3).flatten(-2), double["wo"], double["bo"])
        return x.double() + asked

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        heads: torch.Tensor = torch.unflatten(x, -1, (HEADS, -1))
        return heads.transpose(-2, -3)


def _other_tiles(
    x: torch.Tensor, compiled: CompiledPrompt, length: int, matrix_units: bool
) -> dict[str, Callable[[], torch.Tensor]]:
    """Block sizes that are not chosen today, so that a run on a new card shows whether they should be."""
    width = compiled.c_bias.shape[0]
    base = choose_tiles(width=width, heads=HEADS, keys=length, matrix_units=matrix_units)
    if base.groups > 1:
        return {}
    found: dict[str, Callable[[], torch.Tensor]] = {}
    for block_m, block_d, block_e, warps, stages, parts in (
        (16, 64, 64, 4, 3, 1), (32, 64, 64, 4, 3, 2), (32, 64, 64, 8, 3, 1), (64, 64, 64, 8, 2, 1),
        (64, 32, 64, 8, 3, 1), (128, 64, 64, 8, 2, 1), (32, 64, 64, 4, 3, 4),
    ):  # fmt: skip
        part = -(-width // (parts * block_e)) * block_e
        tiles = Tiles(block_m, block_d, block_e, part, base.heads_padded, base.keys_padded, 1, warps, stages)
        if block_m * base.heads_padded * base.keys_padded > 32_768:
            continue
        name = f"tiles m{block_m} d{block_d} e{block_e} w{warps} s{stages} p{parts}"
        found[name] = lambda tiles=tiles: launch.prompt_attention(  # type: ignore[misc]
            x, *compiled, HEADS, None, x, EPS, tiles
        )
    return found
