"""What of `cross_attention` is compiled ahead of time: the forward pass on contiguous tensors.

Kernels of two kinds. For one prompt length: L is compiled in, an engine's plugin can choose it by the shape of k, and
shorter prompts are padded and masked. For any length: L is a number at launch, the keys are walked over.
"""

from __future__ import annotations

import math

from mmedge_kernels.cross_attention.tiles import LONGEST, PRECISION, DtypeName, forward_tiles
from mmedge_kernels.specification import Constant, GridAxis, KernelSpec, Parameter

PROMPT_LENGTHS = (8, 16, 32, 77)
BUILT_IN_LENGTHS = (8, 16, 24)
VIT_HEAD_DIM = 64
BUILT_IN_HEAD_DIM = 16


def kernel_spec(
    *,
    sm: int,
    dtype: DtypeName,
    head_dim: int,
    keys: int | None,
    masked: bool = False,
    queries: int = LONGEST,
    scale: float | None = None,
) -> KernelSpec:
    """q, out [B, H, M, d], k, v [KB, H, L, d], mask bool [KB, L] if masked; KB is 1 (one prompt for all frames) or B.

    sm: compute capability such as 87. dtype: of q, k, v and out; sums are float32. head_dim: d, from 1 to 256. keys: L,
    compiled in, or None for any L. queries: M where it is known to be small. scale: 1 / sqrt(d) if not given.
    """
    tiles = forward_tiles(
        queries=queries, keys=LONGEST if keys is None else keys, head_dim=head_dim, dtype=dtype, sm=sm
    )
    length = "L" if keys is None else keys
    pointer = f"*{dtype}"
    parameters = [Parameter("q_ptr", pointer, shape=("B", "H", "M", head_dim))]
    parameters += [Parameter(name, pointer, shape=("KB", "H", length, head_dim)) for name in ("k_ptr", "v_ptr")]
    parameters += [Parameter("mask_ptr", "*i1", shape=("KB", length))] if masked else []
    numbers = ("H", "M", *(("L",) if keys is None else ()), "KB")
    parameters += [Parameter(name, "i32", aligned=False) for name in numbers]
    parameters.append(Parameter("out_ptr", pointer, shape=("B", "H", "M", head_dim)))
    marks = [dtype, f"d{head_dim}", "any" if keys is None else f"l{keys}"]
    marks += (["masked"] if masked else []) + ([f"m{queries}"] if queries < LONGEST else [])
    marks += [f"scale{scale:g}"] if scale is not None else []
    absent: dict[str, Constant] = {} if masked else {"mask_ptr": None}
    return KernelSpec(
        name="-".join(["cross_attention", *marks]),
        operator="cross_attention",
        function="mmedge_kernels.cross_attention.triton:cross_attention_dense",
        parameters=tuple(parameters),
        constants={
            **absent,
            **({} if keys is None else {"L": keys}),
            "scale": 1.0 / math.sqrt(head_dim) if scale is None else scale,
            "HEAD_DIM": head_dim,
            "PRECISION": PRECISION,
            **tiles.constants(),
        },
        grid=(GridAxis(("B", "H")), GridAxis(("M",), tiles.block_m)),
        warps=tiles.warps,
        stages=tiles.stages,
        plugin=keys is not None,
    )


def standard_specs(sm: int) -> tuple[KernelSpec, ...]:
    """CLIP and OWLv2 (ViT-B: d = 64) and the built-in model (d = 16), at their prompt lengths and at any length."""
    sizes: list[tuple[DtypeName, int, int | None, bool]] = [
        ("fp16", VIT_HEAD_DIM, keys, masked) for keys in (*PROMPT_LENGTHS, None) for masked in (False, True)
    ]
    if sm >= 80:
        sizes += [("bf16", VIT_HEAD_DIM, keys, False) for keys in PROMPT_LENGTHS]
    sizes += [
        (dtype, BUILT_IN_HEAD_DIM, keys, False) for dtype in ("fp16", "fp32") for keys in (*BUILT_IN_LENGTHS, None)
    ]
    return tuple(
        kernel_spec(sm=sm, dtype=dtype, head_dim=head_dim, keys=keys, masked=masked)
        for dtype, head_dim, keys, masked in sizes
    )
