"""What does not fit gives a TensorError that says what was expected and what came."""

from __future__ import annotations

import math

import pytest
import torch

from mmedge_kernels.cross_attention import cross_attention
from mmedge_kernels.errors import KernelError, TensorError

Q = torch.zeros(2, 3, 5, 16)
K = torch.zeros(2, 3, 7, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": [[1.0]]}, r"q must be a torch\.Tensor \[B, H, M, d\], got list"),
        ({"q": None}, "got NoneType"),
        ({"q": Q[0]}, r"q must have 4 dimensions .*got shape \[3, 5, 16\]"),
        ({"q": Q.int()}, "q must be float16 or .*got int32"),
        ({"q": Q.to(torch.complex64)}, "got complex64"),
        ({"q": Q.to(torch.float8_e4m3fn)}, "got float8_e4m3fn"),
        ({"q": Q[:0]}, r"no dimension of size 0, got shape \[0, 3, 5, 16\]"),
        ({"q": Q[:, :, :0]}, r"got shape \[2, 3, 0, 16\]"),
        ({"q": Q[..., :0]}, r"got shape \[2, 3, 5, 0\]"),
        ({"q": torch.zeros(1, 1, 1, 257)}, "d from 1 to 256, got d = 257"),
        ({"q": torch.zeros(1, 1, 1, 1).expand(1, 1, 1_048_561, 16)}, "k must have shape"),
        ({"k": None}, "k must be a torch.Tensor"),
        ({"k": K.half()}, "k must be float32, got float16"),
        ({"k": K[:, :2]}, r"k must have shape \[B or 1, H, L, d\] = \[2 or 1, 3, 7, 16\], got \[2, 2, 7, 16\]"),
        ({"k": K[..., :15]}, r"got \[2, 3, 7, 15\]"),
        ({"k": torch.zeros(3, 3, 7, 16)}, r"\[2 or 1, 3, 7, 16\], got \[3, 3, 7, 16\]"),
        ({"k": K[:, :, :0]}, "no dimension of size 0"),
        ({"k": K[0]}, "4 dimensions"),
        ({"k": torch.zeros(2, 3, 7, 16, device="meta")}, "k must be on cpu .*got meta"),
        ({"v": K[:, :, :6]}, r"v must have shape the shape of k = \[2, 3, 7, 16\], got \[2, 3, 6, 16\]"),
        ({"v": K[:1]}, r"got \[1, 3, 7, 16\]"),
        ({"v": K.bfloat16()}, "v must be float32, got bfloat16"),
        ({"v": "v"}, "got str"),
        ({"key_mask": torch.ones(2, 7)}, "key_mask must be bool, got float32"),
        ({"key_mask": torch.ones(7, dtype=torch.bool)}, r"2 dimensions \[B or 1, L\], got shape \[7\]"),
        ({"key_mask": torch.ones(2, 5, dtype=torch.bool)}, r"\[2 or 1, 7\], got \[2, 5\]"),
        ({"key_mask": torch.ones(3, 7, dtype=torch.bool)}, r"got \[3, 7\]"),
        ({"key_mask": torch.ones(2, 7, dtype=torch.bool, device="meta")}, "key_mask must be on cpu"),
        ({"bias": torch.zeros(5, 6)}, r"bias must have shape .* = \[5 or 1, 7 or 1\], got \[5, 6\]"),
        ({"bias": torch.zeros(4, 1, 7)}, r"= \[3 or 1, 5 or 1, 7 or 1\], got \[4, 1, 7\]"),
        ({"bias": torch.zeros(1, 2, 3, 5, 7)}, "0 or 1 or 2 or 3 or 4 dimensions"),
        ({"bias": torch.zeros(5, 7).half()}, "bias must be float32, got float16"),
        ({"bias": torch.zeros(5, 7, dtype=torch.bool)}, "bias must be float32, got bool"),
        ({"bias": torch.zeros(0, 7)}, "no dimension of size 0"),
        ({"bias": 0.5}, "got float"),
        ({"scale": math.nan}, "scale must be finite, got nan"),
        ({"scale": math.inf}, "got inf"),
        ({"scale": "1"}, "scale must be a finite number or None, got str"),
        ({"scale": True}, "got bool"),
        ({"scale": torch.tensor(0.5)}, "got Tensor; multiply q"),
        ({"implementation": "cuda"}, "implementation must be .*got 'cuda'"),
        ({"implementation": None}, "got None"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments(changes, message):
    with pytest.raises(TensorError, match=message):
        cross_attention(**({"q": Q, "k": K, "v": K} | changes))


def test_too_long():
    long = torch.zeros(1, 1, 1, 16).expand(1, 1, 1_048_561, 16)
    with pytest.raises(TensorError, match="M must be at most 1048560, got 1048561"):
        cross_attention(long, Q[:1, :1], Q[:1, :1])
    with pytest.raises(TensorError, match="L must be at most 1048560"):
        cross_attention(Q[:1, :1], long, long)


def test_triton_does_not_take_float64(device):
    q, k = Q.to(device).double(), K.to(device).double()
    with pytest.raises(TensorError, match="take float16, bfloat16, float32, got float64; use the reference"):
        cross_attention(q, k, k, implementation="triton")


def test_arguments_are_not_changed(device):
    tensors = {name: torch.randn(shape, device=device) for name, shape in (("q", Q.shape), ("k", K.shape))}
    tensors |= {"v": torch.randn(K.shape, device=device), "bias": torch.randn(5, 7, device=device)}
    tensors["key_mask"] = torch.rand(2, 7, device=device) < 0.5
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    for implementation in ("triton", "reference"):
        cross_attention(**tensors, implementation=implementation)
    assert all(torch.equal(tensors[name], before[name]) for name in tensors)


def test_tensor_error_is_a_value_error():
    assert issubclass(TensorError, ValueError)
    assert issubclass(TensorError, KernelError)
