"""Every launch of the operators through Triton's just-in-time compiler, for a GPU that is not there.

    python jit_launches.py SM

A stand-in for the driver names the GPU; what would be launched is compiled and not run. It covers what neither the
interpreter nor the kernels that are compiled ahead of time go through: how arguments are bound and specialised (None,
1, multiples of 16), and the options of a launch. Prints the kernels' names as JSON. TRITON_INTERPRET must be off.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from mmedge_kernels.cross_attention import launch as cross_attention
from mmedge_kernels.frame.gpu import GpuPlan
from mmedge_kernels.frame.settings import FrameSettings
from mmedge_kernels.frame.tables import frame_tables
from mmedge_kernels.prompt_attention import launch as prompt_attention

SM = int(sys.argv[1])
compiled: list[str] = []


class Driver:
    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", SM, 32)


def compile_only(run: Any) -> Any:
    def only(self: Any, *arguments: Any, warmup: bool, **options: Any) -> None:
        kernel = run(self, *arguments, warmup=True, **options)
        if not kernel.asm["cubin"]:
            raise SystemExit(f"{self.fn.__name__} gave no code")
        compiled.append(self.fn.__name__)

    return only


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def ask_prompts(dtype: torch.dtype, b: int, m: int, d: int, heads: int, keys: int, *n: int) -> None:
    columns = heads * keys
    x, a, bm = (t.to(dtype) for t in (random(b, m, d), random(*n, d, columns), random(*n, columns, d)))
    for mask, residual, norm_eps in ((None, None, None), (torch.ones(*n, keys).bool(), x, 1e-5)):
        prompt_attention.prompt_attention(x, a, random(*n, columns), bm, random(d), heads, mask, residual, norm_eps)


def attend(dtype: torch.dtype, b: int, heads: int, m: int, keys: int, d: int, kb: int) -> None:
    q, k, v = (random(*shape).to(dtype) for shape in ((b, heads, m, d), (kb, heads, keys, d), (kb, heads, keys, d)))
    for mask, bias in ((None, None), (torch.ones(b, keys).bool(), random(1, heads, 1, keys))):
        out, lse = cross_attention.forward(q, k, v, mask, bias, 0.125)
        cross_attention.backward(out, q, k, v, mask, bias, 0.125, out, lse, bias is not None)


def see(color: Any, *shape: int) -> None:
    settings = FrameSettings(size=(24, 24), mean=(0.5,) * 3, std=(0.5,) * 3, color=color, dtype="float16")
    tables = frame_tables(settings, 60, 80)
    frame, out = torch.zeros(shape, dtype=torch.uint8), torch.empty(tables.out_shape, dtype=torch.float16)
    GpuPlan(tables, torch.device("cpu")).run(frame, out)


driver.set_active(Driver())
JITFunction.run = compile_only(JITFunction.run)
prompt_attention._device_facts = lambda device, dtype: (dtype != torch.float32 and SM >= 80, 16)
cross_attention._sm = lambda tensor: SM
for dtype in (torch.float16, torch.float32):
    ask_prompts(dtype, 2, 33, 64, 4, 5, 3)
    attend(dtype, 2, 3, 17, 7, 60, 1)
ask_prompts(torch.float16, 1, 4096, 768, 12, 8)
ask_prompts(torch.float16, 1, 1, 20, 3, 1, 1)
attend(torch.float16, 2, 2, 1, 1, 16, 2)
see("bgr", 60, 80, 3)
see("nv12", 90, 80)
print(json.dumps(compiled))
