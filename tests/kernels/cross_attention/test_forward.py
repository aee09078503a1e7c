"""The output against the reference in float64: odd shapes, masks, biases, strides and what is not a number."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from mmedge_kernels.cross_attention import cross_attention, reference

NAN, INFINITY = math.nan, math.inf

# B, H, M, L, d; every edge of the tiles from both sides
SHAPES = [
    (1, 1, 1, 1, 16),
    (2, 3, 2, 1, 60),
    (1, 2, 1, 128, 64),
    (1, 2, 63, 2, 80),
    (2, 1, 65, 16, 64),
    (1, 3, 17, 17, 96),
    (1, 1, 64, 33, 64),
    (1, 2, 3, 49, 1),
    (1, 1, 97, 63, 60),
    (2, 1, 5, 65, 33),
    (1, 2, 17, 77, 64),
    (1, 1, 31, 97, 80),
    (3, 1, 2, 129, 16),
    (1, 1, 18, 211, 60),
    (1, 1, 129, 32, 128),
    (1, 1, 17, 129, 128),
    (1, 1, 3, 31, 256),
    (1, 1, 17, 63, 200),
]


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_float32(problem, check, family, sizes, masked):
    b, h, m, length, _ = sizes
    check(problem(*sizes, mask=b, bias=(b, h, m, length)) if masked else problem(*sizes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
@pytest.mark.parametrize("sizes", [(2, 2, 37, 77, 64), (1, 1, 64, 16, 16), (1, 2, 17, 131, 60), (1, 1, 5, 97, 256)])
def test_16_bit(problem, check, family, dtype, sizes):
    check(problem(*sizes, dtype=dtype, mask=1, bias=(sizes[1], 1, sizes[3])))


@pytest.mark.parametrize("bias_shape", [(), (19,), (1, 1, 19), (5, 1), (3, 5, 19), (2, 1, 5, 1), (2, 3, 5, 19)])
@pytest.mark.parametrize("kv", [1, 2])
def test_broadcasts(problem, check, family, bias_shape, kv):
    check(problem(2, 3, 5, 19, 16, kv=kv, mask=3 - kv, bias=bias_shape))


def test_float32_bias_under_half_tensors(problem, check):
    made = problem(1, 2, 5, 19, 16, dtype=torch.float16)
    made.arguments["bias"] = torch.randn(2, 5, 19, device=made.arguments["q"].device)
    check(made)


@pytest.mark.parametrize("scale", [0.0, -0.3, 2.5])
def test_scales(problem, check, scale):
    check(problem(1, 2, 5, 19, 16, scale=scale))


@pytest.mark.parametrize("length", [7, 77, 150])
def test_large_scores(problem, check, family, length):
    made = problem(1, 1, 9, length, 16)
    made.arguments["q"] = made.arguments["q"] * 300.0
    made.arguments["k"] = made.arguments["k"].abs() + 1.0
    out = cross_attention(**made.arguments, implementation="triton")
    expected, _ = reference.forward(**made.exact())
    # A float32 score near 10**4 is off by 10**-3, whatever is done with it afterwards.
    torch.testing.assert_close(out.double(), expected, atol=2e-2, rtol=0.0)


@pytest.mark.parametrize("length", [7, 77, 128, 150])
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_key_far_above_the_others(problem, family, length, place):
    made = problem(1, 2, 3, length, 16, bias=(length,))
    key = 0 if place == "first" else length - 1
    made.arguments["bias"][key] = 1000.0
    out = cross_attention(**made.arguments, implementation="triton")
    assert torch.equal(out, made.arguments["v"][:, :, key : key + 1].expand(out.shape))


VIEWS = {
    "heads-inside": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "reversed-dims": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "every-second-row": lambda x: x.repeat_interleave(2, 2)[:, :, ::2],
    "every-second-column": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "offset": lambda x: torch.cat([x[:, :, :1], x], 2)[:, :, 1:],
    "one-head-for-all": lambda x: x[:, :1].expand(x.shape),
    "one-row-for-all": lambda x: x[:, :, :1].expand(x.shape),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("length", [11, 37])
def test_strides(problem, check, family, view, length):
    made = problem(2, 3, 5, length, 20, mask=2, bias=(2, 3, 5, length))
    for name in ("q", "k", "v", "bias"):
        made.arguments[name] = VIEWS[view](made.arguments[name])
    made.arguments["key_mask"] = made.arguments["key_mask"].repeat_interleave(2, 1)[:, ::2]
    check(made)


def test_layout_follows_q(problem, implementation):
    made = problem(2, 3, 5, 7, 16)
    made.arguments["q"] = VIEWS["heads-inside"](made.arguments["q"])
    out = cross_attention(**made.arguments, implementation=implementation)
    assert out.stride() == made.arguments["q"].stride()
    assert out.transpose(1, 2).reshape(2, 5, 48).data_ptr() == out.data_ptr()


@pytest.fixture(params=["triton", "reference"])
def implementation(request):
    return request.param


@pytest.mark.parametrize("length", [7, 77, 150])
def test_a_row_without_keys_is_zero(problem, check, family, implementation, length):
    by_mask = problem(2, 1, 3, length, 16, mask=2)
    by_mask.arguments["key_mask"][1] = False
    assert (check(by_mask, implementation)[1] == 0).all()

    by_bias = problem(2, 1, 3, length, 16, bias=(3, length))
    by_bias.arguments["bias"][2] = -INFINITY
    by_bias.arguments["bias"][0, ::2] = -INFINITY
    out = check(by_bias, implementation)
    assert (out[:, :, 2] == 0).all()
    assert (out[:, :, 0] != 0).any()

    by_both = problem(1, 1, 3, length, 16, mask=1, bias=(3, length))
    by_both.arguments["bias"][1] = torch.where(by_both.arguments["key_mask"][0], -INFINITY, 0.0)
    assert (check(by_both, implementation)[:, :, 1] == 0).all()


@pytest.mark.parametrize("poison", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("length", [7, 77, 150])
def test_nothing_under_the_mask_counts(problem, check, family, implementation, poison, length):
    made = problem(2, 2, 3, length, 16, mask=2, bias=(2, 1, 3, length))
    clean = check(made, implementation)
    hidden = ~made.arguments["key_mask"][:, None, :, None]
    made.arguments["k"] = made.arguments["k"].masked_fill(hidden, poison)
    made.arguments["v"] = made.arguments["v"].masked_fill(hidden, poison)
    made.arguments["bias"] = made.arguments["bias"].masked_fill(hidden.mT, poison)
    torch.testing.assert_close(
        cross_attention(**made.arguments, implementation=implementation), clean, atol=0.0, rtol=0.0
    )


@pytest.mark.parametrize("length", [7, 77, 150])
def test_nan_elsewhere_shows(problem, family, implementation, length):
    made = problem(2, 2, 3, length, 16, mask=2)
    made.arguments["key_mask"][:, 2] = True
    made.arguments["q"][0, 0, 1, 3] = NAN
    made.arguments["k"][0, 1, 2, 5] = NAN
    made.arguments["v"][1, 0, 2, 7] = NAN
    found = cross_attention(**made.arguments, implementation=implementation).isnan()
    expected = torch.zeros_like(found)
    expected[0, 0, 1] = expected[0, 1] = expected[1, 0, :, 7] = True
    assert torch.equal(found, expected)


def test_infinite_scores_are_as_in_torch(problem, implementation):
    made = problem(1, 1, 2, 7, 16, bias=(2, 7))
    made.arguments["bias"][0, 3] = INFINITY
    out = cross_attention(**made.arguments, implementation=implementation)
    assert out[0, 0, 0].isnan().all()
    assert out[0, 0, 1].isfinite().all()


@pytest.mark.parametrize("mask", [None, 2])
def test_reference_equals_torch(problem, mask):
    made = problem(2, 3, 5, 19, 16, mask=mask, bias=(2, 1, 5, 19), scale=0.7)
    exact = made.exact()
    added = exact["bias"]
    if mask:
        made.arguments["key_mask"][:, 3] = True
        added = added.masked_fill(~made.arguments["key_mask"][:, None, None], -INFINITY)
    expected = scaled_dot_product_attention(exact["q"], exact["k"], exact["v"], attn_mask=added, scale=0.7)
    out, _ = reference.forward(**exact)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_reference_on_every_dtype(problem, dtype):
    made = problem(2, 3, 5, 19, 16, mask=1, bias=(3, 1, 19), dtype=dtype)
    out = cross_attention(**made.arguments, implementation="reference")
    expected, _ = reference.forward(**made.exact())
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype), atol=1e-6 if dtype == torch.float32 else 0.0, rtol=1e-2)


@given(
    sizes=st.tuples(*map(st.integers, (1, 1, 1, 1, 1), (2, 2, 40, 140, 70))),
    kv_is_one=st.booleans(),
    mask=st.sampled_from([None, 1]),
    bias_kept=st.none() | st.tuples(*[st.booleans()] * 4),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape(problem, check, family, sizes, kv_is_one, mask, bias_kept):
    b, h, m, length, _ = sizes
    bias = None
    if bias_kept is not None:
        bias = tuple(size if kept else 1 for size, kept in zip((b, h, m, length), bias_kept, strict=True))
    check(problem(*sizes, kv=1 if kv_is_one else b, mask=mask, bias=bias))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("d", [16, 60, 64, 80, 96, 128, 160, 256])
def test_compiled(problem, check, dtype, d):
    for length in (1, 16, 17, 32, 48, 77, 96, 127, 128, 129, 211, 1031):
        for m in (1, 63, 196, 1031):
            check(problem(2, 3, m, length, d, kv=1, dtype=dtype, mask=2, bias=(3, 1, length)))
            check(problem(1, 2, m, length, d, dtype=dtype))


@pytest.mark.gpu
def test_many_heads_and_frames(problem, check):
    check(problem(70_001, 1, 2, 7, 16, kv=1, dtype=torch.float16))
