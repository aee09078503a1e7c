"""What of `prompt_attention` is compiled ahead of time: one kernel for each size, dtype and prompt length.

Prompts are padded to a compiled length (`compile_prompt(..., pad_to=L)`), so a few lengths serve them all.
"""

from __future__ import annotations

from typing import Any

from mmedge_kernels.prompt_attention.tiles import choose_tiles
from mmedge_kernels.specification import GridAxis, KernelSpec, Parameter

PROMPT_LENGTHS = (8, 16, 32)


def kernel_spec(
    *,
    sm: int,
    dtype: str,
    depth: int,
    width: int,
    heads: int,
    keys: int,
    norm_eps: float | None,
    x_per_prompt: bool = False,
    residual: bool = True,
) -> KernelSpec:
    """The kernel for dense tensors: x [B, M, depth], or [B, N, M, depth] where x_per_prompt; out [B, N, M, width].

    sm: compute capability such as 87. dtype: ``fp16``, ``bf16`` or ``fp32``, of x, the matrices, residual and out; the
    biases are float32. keys: L, compiled in. residual: whether there is one, of x's form with `width` columns.
    Raises TensorError for more keys than the kernel takes.
    """
    matrix_units = sm >= 80 and dtype != "fp32"
    tiles = choose_tiles(width=width, heads=heads, keys=keys, matrix_units=matrix_units)
    pointer = f"*{dtype}"
    rows: tuple[str, ...] = ("B", "N", "M") if x_per_prompt else ("B", "M")
    columns = heads * keys
    parameters = [
        Parameter("x_ptr", pointer, shape=(*rows, depth)),
        Parameter("a_ptr", pointer, shape=("N", depth, columns)),
        Parameter("a_bias_ptr", "*fp32", shape=("N", columns)),
        Parameter("b_ptr", pointer, shape=("N", columns, width)),
        Parameter("c_bias_ptr", "*fp32", shape=(width,)),
    ]
    parameters += [Parameter("residual_ptr", pointer, shape=(*rows, width))] if residual else []
    parameters += [Parameter("M", "i32", aligned=False), Parameter("N", "i32", aligned=False)]
    parameters.append(Parameter("out_ptr", pointer, shape=("B", "N", "M", width)))
    marks = [dtype, f"d{depth}", *([f"e{width}"] if width != depth else []), f"h{heads}", f"l{keys}"]
    marks += (["norm"] if norm_eps is not None else []) + (["residual"] if residual else [])
    marks += ["each"] if x_per_prompt else []
    return KernelSpec(
        name="-".join(["prompt_attention", *marks]),
        operator="prompt_attention",
        function="mmedge_kernels.prompt_attention.triton:prompt_attention_dense",
        parameters=tuple(parameters),
        constants={
            **({} if residual else {"residual_ptr": None}),
            "L": keys,
            "D": depth,
            "E": width,
            "HEADS": heads,
            "norm_eps": norm_eps,
            "X_PER_PROMPT": x_per_prompt,
            "PRECISION": "ieee",
            **tiles.constants(),
        },
        grid=(GridAxis(("M",), tiles.block_m), GridAxis(("E",), tiles.part_e), GridAxis(("B", "N"))),
        warps=tiles.warps,
        stages=tiles.stages,
        plugin=True,
    )


def standard_specs(sm: int) -> tuple[KernelSpec, ...]:
    """The sizes of CLIP and OWLv2 (ViT-B: 768 wide, 12 heads; CLIP's text: 512 and 8) and of the built-in model."""
    sizes = [
        (dtype, depth, heads, keys)
        for dtype in ("fp16", "bf16")
        for depth, heads in ((768, 12), (512, 8))
        for keys in PROMPT_LENGTHS
        if dtype == "fp16" or (sm >= 80 and depth == 768)
    ]
    sizes += [(dtype, 64, 4, keys) for dtype in ("fp16", "fp32") for keys in (*PROMPT_LENGTHS[:2], 24)]
    fixed: dict[str, Any] = {"sm": sm, "norm_eps": 1e-5}
    return tuple(
        kernel_spec(**fixed, dtype=dtype, depth=depth, width=depth, heads=heads, keys=keys, x_per_prompt=depth == 64)
        for dtype, depth, heads, keys in sizes
    )
