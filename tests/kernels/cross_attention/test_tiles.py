"""Tiles hold what they must, and fit the shared memory of the GPUs that they are for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmedge_kernels.cross_attention.tiles import backward_tiles, forward_tiles

SMS = (75, 80, 86, 87, 89, 90, 100, 110, 120)
SIZES = {
    "queries": st.integers(1, 5000),
    "keys": st.integers(1, 5000),
    "head_dim": st.integers(1, 256),
    "dtype": st.sampled_from(["fp16", "bf16", "fp32"]),
    "sm": st.sampled_from(SMS),
}


def is_power_of_two(number):
    return number & (number - 1) == 0


@given(**SIZES)
def test_forward_tiles_hold_the_keys_and_the_head(queries, keys, head_dim, dtype, sm):
    tiles = forward_tiles(queries=queries, keys=keys, head_dim=head_dim, dtype=dtype, sm=sm)
    sides = [tiles.block_m, tiles.block_l, tiles.block_d, tiles.step_d, tiles.warps]
    assert all(map(is_power_of_two, sides))
    assert min(sides[:4]) >= 16
    assert head_dim <= tiles.block_d < max(2 * head_dim, 17)
    assert tiles.block_m <= max(16, 2 * queries)
    held = tiles.block_l + tiles.rest_l
    if tiles.short:
        assert keys <= held < max(keys + 32, 17)
    else:
        assert tiles.rest_l == 0
        assert keys > tiles.block_l


@given(**SIZES)
def test_backward_tiles_fit(queries, keys, head_dim, dtype, sm):
    tiles = backward_tiles(queries=queries, keys=keys, head_dim=head_dim, dtype=dtype, sm=sm)
    assert all(map(is_power_of_two, (tiles.block_m, tiles.block_l, tiles.block_d, tiles.step_d, tiles.warps)))
    assert head_dim <= tiles.block_d


@pytest.mark.parametrize(
    ("keys", "expected"),
    [(1, (16, 0)), (16, (16, 0)), (17, (32, 0)), (33, (32, 16)), (48, (32, 16)), (49, (64, 0)), (64, (64, 0)),
     (65, (64, 16)), (77, (64, 16)), (81, (64, 32)), (97, (64, 64)), (128, (64, 64))],
)  # fmt: skip
def test_a_prompt_of_up_to_128_keys_is_held_whole(keys, expected):
    tiles = forward_tiles(queries=196, keys=keys, head_dim=64, dtype="fp16", sm=87)
    assert (tiles.block_l, tiles.rest_l) == expected
    assert tiles.short


def test_longer_prompts_are_streamed():
    assert not forward_tiles(queries=196, keys=129, head_dim=64, dtype="fp16", sm=87).short
