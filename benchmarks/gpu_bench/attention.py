"""`cross_attention` against every backend of torch's scaled_dot_product_attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from gpu_bench.timing import Case
from mmedge_kernels.cross_attention import cross_attention

ROWS, KEYS = (196, 576, 1024, 4096), (4, 16, 32, 77)
HEADS, HEAD_DIM = 12, 64
DTYPES = (torch.float16, torch.bfloat16)
BOUNDS = {torch.float16: 2e-3, torch.bfloat16: 1.5e-2, torch.float32: 1e-5}
BACKENDS = {
    "sdpa flash": SDPBackend.FLASH_ATTENTION,
    "sdpa efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa math": SDPBackend.MATH,
}


def cases(device: str, rehearse: bool) -> Iterator[Case]:
    """One for each number of rows, keys and dtype; batch 1 and 8, fresh random inputs."""
    rows, keys, batches = ((5,), (3,), (2,)) if rehearse else (ROWS, KEYS, (1, 8))
    for dtype in DTYPES[:1] if rehearse else DTYPES:  # the interpreter multiplies bfloat16 wrongly
        for batch in batches:
            for m in rows:
                for length in keys:
                    yield attention_case(device, dtype, batch, m, length)


def attention_case(device: str, dtype: torch.dtype, batch: int, m: int, length: int) -> Case:
    q, k, v = (torch.randn(batch, HEADS, n, HEAD_DIM, device=device).to(dtype) for n in (m, length, length))
    paths: dict[str, Callable[[], torch.Tensor]] = {
        "cross_attention": lambda: cross_attention(q, k, v, implementation="triton")
    }
    for name, backend in BACKENDS.items():
        paths[name] = _sdpa(q, k, v, backend)
    inner = batch * HEADS
    return Case(
        name="cross_attention",
        sizes={"dtype": str(dtype).removeprefix("torch."), "B": batch, "M": m, "L": length, "H": HEADS, "d": HEAD_DIM},
        paths=paths,
        reference=lambda: _exact(q, k, v),
        operations=4.0 * inner * m * length * HEAD_DIM,
        bytes=q.element_size() * inner * HEAD_DIM * (2.0 * m + 2.0 * length),
        bound=BOUNDS[dtype],
    )


def _sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, backend: SDPBackend) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with sdpa_kernel([backend]):
            return scaled_dot_product_attention(q, k, v)

    return run


def _exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = q.double() @ k.double().transpose(-1, -2) * q.shape[-1] ** -0.5
    return torch.softmax(scores, -1) @ v.double()
