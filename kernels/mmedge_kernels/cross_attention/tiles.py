"""How `cross_attention` is cut into tiles: pure arithmetic, without torch and Triton.

Two families. With tensor cores (16-bit types from compute capability 8.0 on) a program takes up to 64 queries and all
of head_dim at once. Without them (float32, and everything on 7.5) Triton multiplies by fused multiply-adds and loads
whole operands into registers first, so only small tiles stay out of local memory: fewer queries, 16 columns a step, 16
keys a tile. The numbers come from registers, spills and shared memory of the compiled kernels; speed was not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

DtypeName: TypeAlias = Literal["fp16", "bf16", "fp32"]

# float32 is multiplied as such, not as three TF32 products ("tf32x3"): the result keeps float32's own accuracy on every
# GPU, 7.5 without TF32 too, it is the arithmetic that Triton's interpreter can test, and it takes fewer registers (56
# against 72 for 32 queries, 16 keys and d = 64 on 8.7). For speed there are the 16-bit types, which it does not touch.
PRECISION = "ieee"

SMALLEST_TILE = 16  # the least that a product of tiles takes along each side
LONGEST = 65_535 * SMALLEST_TILE  # a grid has at most 65535 tiles of queries or keys
WANTED_PROGRAMS = 512
TILES_PER_PART = 4


@dataclass(frozen=True)
class Tiles:
    """Queries, keys and padded head_dim of a tile, columns a step, warps and pipeline stages of a program."""

    block_m: int
    block_l: int
    block_d: int
    step_d: int
    warps: int
    stages: int

    def constants(self) -> dict[str, int]:
        """The sizes as constants of a kernel."""
        return {"BLOCK_M": self.block_m, "BLOCK_L": self.block_l, "BLOCK_D": self.block_d, "STEP_D": self.step_d}


@dataclass(frozen=True)
class ForwardTiles(Tiles):
    """short: all keys at once, in tiles of block_l and rest_l (0: none); else they are walked over by block_l."""

    rest_l: int
    short: bool

    def constants(self) -> dict[str, int]:
        return {**super().constants(), "REST_L": self.rest_l, "SHORT": self.short}


def forward_tiles(*, queries: int, keys: int, head_dim: int, dtype: DtypeName, sm: int) -> ForwardTiles:
    """sm: compute capability without the dot, such as 87."""
    block_d = _power_of_two(head_dim)
    if not _has_tensor_cores(dtype, sm):
        short = keys <= (32 if dtype == "fp32" else 16)
        block_l = _power_of_two(keys) if short else 16
        block_m, warps = (32, 4) if block_d <= 64 else (16, 8)
        block_m = min(block_m, _power_of_two(queries))
        return ForwardTiles(block_m, block_l, block_d, 16, warps, 2 if sm >= 80 else 1, 0, short)
    block_m = min(64, _power_of_two(queries))
    warps = 8 if block_m == 64 and block_d > 64 else 4
    if keys <= (128 if block_d <= 128 else 32):
        block_l, rest_l = _whole_tiles(keys)
        return ForwardTiles(block_m, block_l, block_d, block_d, warps, 2, rest_l, True)
    # The tensor cores of 10.x and 11.x hand sums over in a layout with which 64 keys spill. From 9.0 on, 12.x apart,
    # Triton keeps one more tile of keys in shared memory for the same number of stages.
    block_l = 64 if block_d <= 128 and not 100 <= sm < 120 else 32
    stages = 3 if block_d <= 64 and not 90 <= sm < 120 else 2
    return ForwardTiles(block_m, block_l, block_d, block_d, warps, stages, 0, False)


def backward_tiles(*, queries: int, keys: int, head_dim: int, dtype: DtypeName, sm: int) -> Tiles:
    """For both kernels of the backward pass. sm as in `forward_tiles`."""
    block_d = _power_of_two(head_dim)
    if not _has_tensor_cores(dtype, sm):
        return Tiles(16, 16, block_d, 16, 8, 2 if sm >= 80 else 1)
    block_m, block_l = min(32, _power_of_two(queries)), min(32, _power_of_two(keys))
    return Tiles(block_m, block_l, block_d, block_d, 4 if block_d <= 64 else 8, 2)


def rows_per_part(*, heads: int, queries: int, keys: int, tiles: Tiles) -> int:
    """Queries that one program sums over for the gradients of k and v, a multiple of tiles.block_m.

    heads: B * H. Where heads and tiles of keys are too few to fill a GPU the queries are cut into parts, of at least
    TILES_PER_PART tiles. It depends on the shapes alone, so that a sum has the same order on every device.
    """
    parts = WANTED_PROGRAMS // (heads * -(-keys // tiles.block_l)) or 1
    least = TILES_PER_PART * tiles.block_m
    rows = max(least, -(-queries // parts))
    return -(-rows // tiles.block_m) * tiles.block_m


def _whole_tiles(keys: int) -> tuple[int, int]:
    """At most 128 keys as one tile, or as a tile and a rest where that pads less: 77 -> 64 + 16.

    128 are two tiles of 64: these take fewer registers than one.
    """
    half = _power_of_two(keys) // 2
    if half < 2 * SMALLEST_TILE:
        return 2 * half, 0
    rest = _power_of_two(keys - half)
    return (half, rest) if rest < half or half == 64 else (2 * half, 0)


def _has_tensor_cores(dtype: DtypeName, sm: int) -> bool:
    return dtype != "fp32" and sm >= 80


def _power_of_two(size: int) -> int:
    """The next power of two, at least SMALLEST_TILE."""
    return max(SMALLEST_TILE, 1 << (size - 1).bit_length())
