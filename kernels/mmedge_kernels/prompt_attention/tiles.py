"""How `prompt_attention` is cut into programs: plain numbers, without torch or Triton.

The rules come from the compiled code (registers, spills, shared memory) of every GPU generation that is supported; what
of it is fastest has not been measured on each, and `benchmarks/gpu.py` compares alternatives where there is a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmedge_kernels.errors import TensorError

MAX_KEYS = 512
"""Longest prompt that the kernel takes; the compiled form stops paying long before that."""


@dataclass(frozen=True)
class Tiles:
    """Block sizes and warps of one launch; `triton.py` says what they mean."""

    block_m: int
    block_d: int
    block_e: int
    part_e: int
    heads_padded: int
    keys_padded: int
    groups: int
    warps: int
    stages: int = 2

    def constants(self) -> dict[str, int]:
        """The constexpr parameters of the kernel that cut the work."""
        return {
            "BLOCK_M": self.block_m,
            "BLOCK_D": self.block_d,
            "BLOCK_E": self.block_e,
            "PART_E": self.part_e,
            "HEADS_PADDED": self.heads_padded,
            "KEYS_PADDED": self.keys_padded,
            "GROUPS": self.groups,
        }


def choose_tiles(
    *, width: int, heads: int, keys: int, matrix_units: bool, rows: int | None = None, processors: int | None = None
) -> Tiles:
    """Tiles for an output of `width` columns and `heads` heads over `keys` tokens.

    matrix_units: the products run on tensor cores (half precision from sm_80 on; Triton has none for sm_75, and float32
    is kept out of TF32). rows: of the whole launch, frames and prompts counted; processors: of the GPU. Where these are
    given, large launches get taller tiles and small ones are split along the output, at the price of computing the
    scores more than once on processors that would have been idle.
    Raises TensorError for more keys than MAX_KEYS.
    """
    if keys > MAX_KEYS:
        raise TensorError(
            f"the kernel of prompt_attention takes prompts of at most {MAX_KEYS} tokens, got {keys}; for longer ones "
            "cross_attention is the faster form"
        )
    keys_padded = _power_of_two(keys)
    heads_padded = _power_of_two(heads)
    if heads_padded * keys_padded < 16:
        keys_padded = 16 // heads_padded  # the smallest product of matrices
    columns = heads_padded * keys_padded
    most = 512 if matrix_units else 256
    if columns > most:
        return _grouped(width, heads, keys_padded, matrix_units)
    if matrix_units:
        block_m, block_d, block_e = {128: (32, 64, 64), 256: (32, 32, 32), 512: (16, 32, 16)}[max(columns, 128)]
        warps = 4
    else:
        block_m, block_d, block_e = (16, 32, 32) if columns <= 64 else (16, 16, 16)
        warps = 4 if columns <= 64 else 8
    blocks_e = _blocks(width, block_e)
    parts = 1
    if rows is not None and processors is not None:
        if matrix_units and columns <= 256 and rows >= 2 * 64 * processors:
            block_m, warps = 64, 8
        parts = max(min(processors // _blocks(rows, block_m), blocks_e), 1)
    part = _blocks(blocks_e, parts) * block_e
    return Tiles(block_m, block_d, block_e, part, heads_padded, keys_padded, 1, warps)


def _grouped(width: int, heads: int, keys_padded: int, matrix_units: bool) -> Tiles:
    """Too many columns for the registers: some heads at a time, scores anew for each block of the output."""
    columns = 256 if matrix_units else 128
    heads_padded = max(columns // keys_padded, 1)
    groups = _blocks(heads, heads_padded)
    block_d = 32 if matrix_units and keys_padded <= 256 else 16
    block_e = min(64, max(16, _power_of_two(width))) if matrix_units else 16
    return Tiles(16, block_d, block_e, block_e, heads_padded, keys_padded, groups, 4 if matrix_units else 8)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _blocks(length: int, block: int) -> int:
    return -(-length // block)
