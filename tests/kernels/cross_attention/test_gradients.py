"""Gradients of the kernels and of the reference's own backward pass, against torch's in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmedge_kernels.cross_attention import cross_attention, operator, tiles

SHAPES = [
    (1, 2, 1, 2, 16),
    (2, 2, 2, 17, 60),
    (1, 2, 33, 7, 64),
    (1, 1, 17, 33, 80),
    (2, 1, 5, 77, 33),
    (1, 1, 3, 129, 16),
    (1, 1, 211, 16, 16),
    (1, 1, 17, 3, 256),
]


@pytest.fixture(params=["triton", "reference"])
def implementation(request):
    return request.param


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_float32(problem, check_gradients, family, sizes, masked):
    b, h, m, length, _ = sizes
    options = {"mask": b, "bias": (b, h, m, length)} if masked else {}
    check_gradients(with_two_keys(problem(*sizes, grad=True, **options)))


def with_two_keys(made):
    """One key alone has weight 1, and all gradients but that of v are 0 up to rounding: nothing to compare."""
    if "key_mask" in made.arguments:
        made.arguments["key_mask"][:, :2] = True
    return made


def test_one_key(problem, family, implementation):
    made = problem(2, 1, 3, 1, 16, bias=(2, 1, 3, 1), grad=True)
    cross_attention(**made.arguments, implementation=implementation).square().sum().backward()
    grads = {name: leaf.grad for name, leaf in made.leaves.items()}
    assert all(grads[name].abs().max() < 1e-4 for name in ("q", "k", "bias"))
    torch.testing.assert_close(grads["v"], 2 * 3 * made.arguments["v"].detach())


@pytest.mark.parametrize("sizes", SHAPES[:4], ids=str)
def test_the_reference(problem, check_gradients, sizes):
    options = {"mask": 1, "bias": (sizes[1], 1, sizes[3]), "grad": True}
    check_gradients(with_two_keys(problem(*sizes, **options)), "reference")
    check_gradients(with_two_keys(problem(*sizes, **options, dtype=torch.float64)), "reference", bound=1e-12)


@pytest.mark.parametrize("bias", [(2, 3, 5, 19), (1, 3, 5, 19), (2, 1, 1, 19), (5, 19), (3, 1, 19), (2, 3, 1, 1)])
@pytest.mark.parametrize("kv", [1, 2])
def test_what_is_broadcast_is_summed(problem, check_gradients, implementation, bias, kv):
    made = problem(2, 3, 5, 19, 16, kv=kv, bias=bias, grad=True)
    if bias[-1] == 1:  # the same for all keys of a row: its gradient is 0, and only how near to 0 can be told
        bias_leaf = made.arguments["bias"]
        cross_attention(**made.arguments, implementation=implementation).sum().backward()
        assert bias_leaf.grad.abs().max() < 1e-5
    else:
        check_gradients(made, implementation)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
@pytest.mark.parametrize("sizes", [(2, 1, 35, 19, 64), (1, 1, 64, 16, 16), (1, 1, 17, 131, 60)])
def test_16_bit(problem, check_gradients, family, dtype, sizes):
    made = problem(*sizes, kv=1, dtype=dtype, mask=1, bias=(sizes[1], 1, sizes[3]), grad=True)
    check_gradients(with_two_keys(made), bound={torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype])


def test_queries_in_parts(problem, check_gradients, monkeypatch):
    monkeypatch.setattr(tiles, "TILES_PER_PART", 1)
    made = problem(2, 1, 70, 19, 16, kv=1, mask=2, grad=True)
    with_two_keys(made)
    cut = tiles.backward_tiles(queries=70, keys=19, head_dim=16, dtype="fp32", sm=80)
    assert tiles.rows_per_part(heads=2, queries=70, keys=19, tiles=cut) < 35
    check_gradients(made)


@pytest.mark.parametrize("view", ["heads-inside", "one-head-for-all", "every-second-column"])
def test_strides(problem, check_gradients, family, view):
    def views(x):
        if view == "one-head-for-all":
            return x[:, :1].expand(x.shape)
        if view == "heads-inside":
            return x.transpose(1, 2).contiguous().transpose(1, 2)
        return x.repeat_interleave(2, 3)[..., ::2]

    made = problem(2, 3, 5, 19, 20, mask=2, bias=(2, 3, 5, 19))
    for name in ("q", "k", "v", "bias"):
        made.arguments[name] = views(made.arguments[name]).requires_grad_()
    check_gradients(with_two_keys(made))


def test_an_expanded_upstream_gradient(problem):
    made = problem(1, 2, 3, 7, 16, grad=True)
    out = cross_attention(**made.arguments, implementation="triton")
    leaves = list(made.leaves.values())
    found = torch.autograd.grad(
        out, leaves, torch.ones(1, 1, 1, 1, device=out.device).expand(out.shape), retain_graph=True
    )
    for mine, theirs in zip(found, torch.autograd.grad(out, leaves, torch.ones_like(out)), strict=True):
        torch.testing.assert_close(mine, theirs, atol=0.0, rtol=0.0)


@pytest.mark.parametrize("length", [7, 40])
def test_rows_and_keys_that_take_no_part(problem, check_gradients, family, implementation, length):
    made = problem(2, 1, 3, length, 16, mask=2, bias=(2, 1, 3, length), grad=True)
    mask = made.arguments["key_mask"]
    mask[0], mask[1] = False, True
    mask[1, 2] = False
    with torch.no_grad():
        made.arguments["bias"][1, 0, 2] = -math.inf
        made.arguments["bias"][1, 0, 0, 1] = -math.inf
        made.arguments["k"][1, :, 2] = made.arguments["v"][1, :, 2] = math.nan
        made.arguments["k"][0] = math.inf
    check_gradients(made, implementation)
    cross_attention(**made.arguments, implementation=implementation).square().sum().backward()
    grads = {name: leaf.grad for name, leaf in made.leaves.items()}
    assert all(grad.isfinite().all() for grad in grads.values())
    assert not any(grad[0].any() for grad in grads.values())
    assert not grads["q"][1, 0, 2].any()
    assert not grads["k"][1, :, 2].any()
    assert not grads["v"][1, :, 2].any()
    assert not grads["bias"][1, 0, :, 2].any()
    assert not grads["bias"][1, 0, 0, 1].any()
    assert grads["q"][1, 0, 0].any()


@pytest.mark.parametrize("wanted", ["q", "v", "bias"])
def test_only_what_is_asked_for(problem, implementation, wanted):
    made = problem(1, 2, 3, 7, 16, bias=(2, 3, 7))
    made.arguments[wanted].requires_grad_()
    cross_attention(**made.arguments, implementation=implementation).square().sum().backward()
    assert [name for name in ("q", "k", "v", "bias") if made.arguments[name].grad is not None] == [wanted]


def test_numeric_gradients_of_the_reference(problem):
    made = problem(2, 1, 3, 4, 2, kv=1, mask=2, bias=(1, 3, 4), dtype=torch.float64, grad=True)
    made.arguments["key_mask"][:, 0] = True

    def run(q, k, v, bias):
        return operator.forward(q, k, v, made.arguments["key_mask"], bias, 0.5, "reference")[0]

    assert torch.autograd.gradcheck(run, tuple(made.leaves.values()))


def test_no_second_gradient(problem, implementation):
    made = problem(1, 1, 2, 3, 16, grad=True)
    out = cross_attention(**made.arguments, implementation=implementation)
    (grad,) = torch.autograd.grad(out.square().sum(), [made.arguments["q"]], create_graph=True)
    with pytest.raises(RuntimeError, match="mmedge"):
        grad.sum().backward()


@given(
    sizes=st.tuples(*map(st.integers, (1, 1, 1, 2, 1), (2, 2, 40, 50, 40))),
    kv_is_one=st.booleans(),
    mask=st.sampled_from([None, 1]),
    biased=st.booleans(),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape(problem, check_gradients, sizes, kv_is_one, mask, biased):
    b, h, m, length, _ = sizes
    bias = (h, m, length) if biased else None
    check_gradients(with_two_keys(problem(*sizes, kv=1 if kv_is_one else b, mask=mask, bias=bias, grad=True)))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("d", [16, 60, 64, 80, 128, 256])
def test_compiled(problem, check_gradients, dtype, d):
    bound = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    for m, length in ((196, 8), (63, 77), (1031, 16), (211, 129), (5, 1031)):
        made = problem(2, 3, m, length, d, kv=1, mask=2, bias=(3, 1, length), dtype=dtype, grad=True)
        check_gradients(with_two_keys(made), bound=bound)
