"""Compiles the strided kernels without a GPU, as torch tensors would have them, and prints what they need as JSON.

    python compile_kernels.py SM DTYPE HEAD_DIM KEYS

KEYS 1: everything else is 1 too, and there is neither mask nor bias; Triton makes constants of such arguments.
Run in a process of its own, without Triton's interpreter.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmedge_kernels.cross_attention import triton as forward
from mmedge_kernels.cross_attention import triton_backward as backward
from mmedge_kernels.cross_attention.tiles import PRECISION, backward_tiles, forward_tiles

LAST = ("stride_d", "bias_stride_l", "mask_stride_l")  # steps of 1, which Triton makes constants
FLOATS = ("lse_ptr", "delta_ptr", "grad_scores_ptr", "grad_k_ptr", "grad_v_ptr")


def type_of(name, dtype):
    if name == "mask_ptr":
        return "*i1"
    if name.endswith("_ptr"):
        return "*fp32" if name in FLOATS else f"*{dtype}"
    return "fp32" if name == "scale" else "i32"


def constants_of(kernel, tiles, head_dim, ones):
    constants = {"HEAD_DIM": head_dim, "PRECISION": PRECISION, **tiles.constants()}
    for name in set(kernel.arg_names) - set(constants):
        if name.endswith(LAST) or (ones and not name.endswith("_ptr") and name != "scale"):
            constants[name] = 1
        elif ones and name in ("mask_ptr", "bias_ptr", "grad_scores_ptr"):
            constants[name] = None
    return constants


def needs(kernel, tiles, head_dim, dtype, sm, ones):
    constants = constants_of(kernel, tiles, head_dim, ones)
    whole = [n.endswith("_ptr") or ("stride" in n and head_dim % 16 == 0) for n in kernel.arg_names]
    source = ASTSource(
        fn=kernel,
        signature={n: "constexpr" if n in constants else type_of(n, dtype) for n in kernel.arg_names},
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i, aligned in enumerate(whole) if aligned},
    )
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)
    return {"shared": compiled.metadata.shared, "matrix_units": "mma" in compiled.asm["ptx"], **asdict(tiles)}


def main(sm, dtype, head_dim, keys):
    sizes = {"queries": 1 if keys == 1 else 196, "keys": keys, "head_dim": head_dim, "dtype": dtype, "sm": sm}
    kernels = {
        forward.cross_attention_forward: forward_tiles(**sizes),
        backward.cross_attention_backward_queries: backward_tiles(**sizes),
        backward.cross_attention_backward_keys: backward_tiles(**sizes),
    }
    print(json.dumps({k.__name__: needs(k, tiles, head_dim, dtype, sm, keys == 1) for k, tiles in kernels.items()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
