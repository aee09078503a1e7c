"""The kernel and the reference against the definition in float64, written out here once more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmedge_kernels.prompt_attention import launch, prompt_attention
from mmedge_kernels.prompt_attention.tiles import MAX_KEYS, choose_tiles

IMPLEMENTATIONS = ["reference", "triton"]
# Errors of half precision come from rounding the weights of the softmax and the result, not from the sums.
BOUNDS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}


def definition(
    x: Tensor,
    a_matrix: Tensor,
    a_bias: Tensor,
    b_matrix: Tensor,
    c_bias: Tensor,
    heads: int,
    mask: Tensor | None = None,
    residual: Tensor | None = None,
    norm_eps: float | None = None,
) -> Tensor:
    """A head at a time, in float64, [B, N, M, E]."""
    x, a_matrix, a_bias, b_matrix, c_bias = (t.double() for t in (x, a_matrix, a_bias, b_matrix, c_bias))
    if a_matrix.ndim == 2:
        a_matrix, a_bias, b_matrix = a_matrix[None], a_bias[None], b_matrix[None]
    prompts, keys = a_matrix.shape[0], a_matrix.shape[-1] // heads
    rows = x[:, None].expand(-1, prompts, -1, -1) if x.ndim == 3 else x
    out = torch.zeros(*rows.shape[:-1], b_matrix.shape[-1], dtype=torch.float64, device=x.device) + c_bias
    for n in range(prompts):
        taken = torch.ones(keys, dtype=torch.bool) if mask is None else (mask if mask.ndim == 1 else mask[n]).cpu()
        for head in range(heads):
            places = (head * keys + torch.arange(keys)[taken]).to(x.device)
            places = places[a_bias[n, places] > -torch.inf]
            if not len(places):
                continue
            scores = rows[:, n] @ a_matrix[n][:, places]
            if norm_eps is not None:
                scores = scores / torch.sqrt(rows[:, n].var(-1, unbiased=False, keepdim=True) + norm_eps)
            weights = torch.exp(scores + a_bias[n, places])
            out[:, n] += (weights / weights.sum(-1, keepdim=True)) @ b_matrix[n][places]
    if residual is not None:
        out = out + (residual[:, None] if residual.ndim == 3 else residual).double()
    return out


def error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected.reshape(got.shape)).norm() / expected.norm())


def cast(arguments: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Everything in dtype but the biases."""
    keep = ("a_bias", "c_bias")
    return {
        name: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() and name not in keep else value
        for name, value in arguments.items()
    }


# B, M, D, E, H, L
SIZES = [
    (1, 1, 1, 1, 1, 1),
    (2, 17, 64, 64, 4, 8),
    (1, 63, 60, 60, 3, 5),
    (3, 2, 97, 97, 5, 13),
    (1, 67, 48, 80, 6, 16),
    (1, 40, 130, 130, 12, 8),
    (1, 33, 40, 72, 2, 77),
    (2, 19, 33, 33, 12, 32),
    (1, 16, 24, 100, 13, 61),
    (1, 5, 20, 20, 1, 211),
    (1, 3, 20, 36, 3, 500),
]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_odd_sizes(problem, implementation, sizes, dtype):
    arguments = cast(problem(1, *sizes), dtype)
    got = prompt_attention(**arguments, implementation=implementation)
    assert got.dtype == dtype
    assert got.shape == (*sizes[:2], sizes[3])
    assert error(got, definition(**arguments)) <= BOUNDS[dtype]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("rows", ["shared", "each"])
@pytest.mark.parametrize("extras", ["plain", "mask", "norm", "all"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_several_prompts(problem, implementation, extras, rows):
    arguments = problem(2, 2, 21, 36, 36, 3, 7, prompts=3)
    if rows == "each":
        arguments["x"] = torch.randn(2, 3, 21, 36, device=arguments["x"].device) + 2
    if extras in ("mask", "all"):
        arguments["mask"] = torch.tensor([[1, 1, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0, 1], [0] * 7]).bool()
        arguments["mask"] = arguments["mask"].to(arguments["x"].device)
    if extras in ("norm", "all"):
        arguments["norm_eps"] = 1e-5
    if extras == "all":
        arguments["residual"] = arguments["x"]
    got = prompt_attention(**arguments, implementation=implementation)
    assert got.shape == (2, 3, 21, 36)
    assert error(got, definition(**arguments)) <= 1e-5


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_size(data, device):
    draw = data.draw
    b, m, d, e = draw(st.integers(1, 3)), draw(st.integers(1, 70)), draw(st.integers(1, 90)), draw(st.integers(1, 90))
    heads, keys, prompts = draw(st.integers(1, 13)), draw(st.integers(1, 40)), draw(st.none() | st.integers(1, 3))
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator(device).manual_seed(seed)
    many = () if prompts is None else (prompts,)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    matrix = random(*many, d, heads * keys)
    arguments = {
        "x": random(b, m, d),
        "a_matrix": (matrix - matrix.mean(-2, keepdim=True)) * d**-0.5,
        "a_bias": random(*many, heads * keys),
        "b_matrix": random(*many, heads * keys, e),
        "c_bias": random(e),
        "heads": heads,
        "mask": random(keys) > 0 if draw(st.booleans()) else None,
        "residual": random(b, m, e) if draw(st.booleans()) else None,
        "norm_eps": 1e-5 if d > 1 and draw(st.booleans()) else None,
    }
    expected = definition(**arguments)
    for implementation in IMPLEMENTATIONS:
        assert error(prompt_attention(**arguments, implementation=implementation), expected) <= 1e-5


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_large_mean_keeps_its_variance(problem, implementation):
    arguments = problem(3, 1, 20, 300, 40, 2, 6) | {"norm_eps": 1e-5}
    arguments["x"] = arguments["x"] * 0.5 + 400.0
    expected = definition(**arguments)
    # The input itself is only known to 2^-24 of 400, a 20,000th of its deviation; that reaches the scores.
    assert error(prompt_attention(**arguments, implementation=implementation), expected) <= 2e-4


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nothing_under_the_mask_matters(problem, implementation):
    arguments = problem(4, 1, 20, 32, 32, 2, 6)
    arguments["mask"] = torch.tensor([True, True, False, True, False, False], device=arguments["x"].device)
    expected = prompt_attention(**arguments, implementation=implementation)
    hidden = (~arguments["mask"]).tile(2)
    arguments["a_matrix"][:, hidden] = torch.nan
    arguments["a_bias"][hidden] = torch.nan
    arguments["b_matrix"][hidden] = torch.nan
    assert torch.equal(prompt_attention(**arguments, implementation=implementation), expected)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("way", ["mask", "bias"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_all_tokens_left_out(problem, implementation, way):
    arguments = problem(5, 1, 20, 32, 24, 2, 6)
    if way == "mask":
        arguments["mask"] = torch.zeros(6, dtype=torch.bool, device=arguments["x"].device)
    else:
        arguments["a_bias"][:] = -torch.inf
    arguments["residual"] = torch.randn(1, 20, 24, device=arguments["x"].device)
    got = prompt_attention(**arguments, implementation=implementation)
    torch.testing.assert_close(got, arguments["residual"] + arguments["c_bias"], rtol=0, atol=0)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nan_in_a_row_stays_in_the_row(problem, implementation):
    arguments = problem(6, 1, 20, 32, 24, 2, 6)
    arguments["x"][0, 7, 3] = torch.nan
    got = prompt_attention(**arguments, implementation=implementation)
    assert torch.isnan(got[0, 7]).all()
    assert not torch.isnan(got[0, torch.arange(20) != 7]).any()


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_strides(problem, implementation):
    device = problem(0, 1, 1, 1, 1, 1, 1)["x"].device
    x = torch.randn(30, 2, 36, device=device).transpose(0, 1)
    arguments = {
        "x": x,
        "a_matrix": torch.randn(3, 21, 36, device=device).transpose(1, 2),
        "a_bias": torch.randn(21, 3, device=device).T,
        "b_matrix": torch.randn(3, 21, 2 * 36, device=device)[..., ::2],
        "c_bias": torch.randn(72, device=device)[::2],
        "residual": torch.randn(2, 1, 1, 36, device=device).expand(2, 3, 30, 36),
        "mask": torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]]).bool().T,
        "heads": 3,
    }
    arguments["mask"] = arguments["mask"].to(device)
    arguments["a_matrix"] = arguments["a_matrix"] * 36**-0.5
    got = prompt_attention(**arguments, implementation=implementation)
    assert got.is_contiguous()
    assert error(got, definition(**arguments)) <= 1e-5


def test_same_bits_each_time(problem):
    arguments = problem(7, 2, 50, 64, 64, 4, 8) | {"norm_eps": 1e-5}
    first, second = (prompt_attention(**arguments, implementation="triton") for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("processors", [1, 4, 132])
@pytest.mark.parametrize("matrix_units", [False, True])
@pytest.mark.parametrize("sizes", [(1, 40, 48, 200, 4, 8), (1, 40, 48, 60, 12, 32), (1, 70, 48, 60, 4, 32)], ids=str)
def test_every_way_to_cut_the_work(problem, sizes, matrix_units, processors):
    arguments = problem(8, *sizes) | {"mask": None, "residual": None, "norm_eps": 1e-6}
    tiles = choose_tiles(
        width=sizes[3], heads=sizes[4], keys=sizes[5], matrix_units=matrix_units, rows=sizes[1], processors=processors
    )
    assert error(launch.prompt_attention(**arguments, tiles=tiles), definition(**arguments)) <= 1e-5


@pytest.mark.parametrize("matrix_units", [False, True])
@pytest.mark.parametrize("heads", [1, 3, 12, 16, 40])
@pytest.mark.parametrize("keys", [1, 8, 77, MAX_KEYS])
def test_tiles_cover_heads_keys_and_width(keys, heads, matrix_units):
    tiles = choose_tiles(width=100, heads=heads, keys=keys, matrix_units=matrix_units)
    assert tiles.keys_padded >= keys
    assert tiles.heads_padded * tiles.groups >= heads
    assert tiles.heads_padded * tiles.keys_padded >= 16
    assert tiles.part_e % tiles.block_e == 0
    assert tiles.groups == 1 or tiles.part_e == tiles.block_e


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("keys", [1, 7, 8, 16, 32, 77, 300])
@pytest.mark.parametrize(("m", "d", "heads"), [(196, 768, 12), (577, 1024, 16), (432, 64, 4), (4096, 512, 8)])
def test_on_a_gpu(problem, m, d, heads, keys, dtype):
    arguments = cast(problem(9, 2, m, d, d, heads, keys) | {"norm_eps": 1e-5}, dtype)
    arguments["residual"] = arguments["x"]
    got = prompt_attention(**arguments, implementation="triton")
    assert error(got, definition(**arguments)) <= BOUNDS[dtype]
