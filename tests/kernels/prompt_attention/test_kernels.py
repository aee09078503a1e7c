"""The kernels that are compiled ahead of time, run in the interpreter as they are specified."""

from __future__ import annotations

import pytest
import torch
from support.interpreter import launch_specification

from mmedge_kernels.prompt_attention import prompt_attention
from mmedge_kernels.prompt_attention.kernels import kernel_spec, standard_specs

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
BOUNDS = {"fp16": 2e-3, "bf16": 1.5e-2, "fp32": 1e-5}
SMS = (75, 80, 86, 87, 89, 90, 110, 120)


@pytest.mark.parametrize("sm", [75, 87])
@pytest.mark.parametrize("each", [False, True], ids=["shared", "each"])
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize(("dtype", "keys"), [("fp32", 8), ("fp16", 16), ("bf16", 24), ("fp32", 5)])
def test_dense_kernels_give_the_reference(problem, sm, each, residual, dtype, keys):
    frames, prompts, rows, depth, width, heads = 2, 3, 21, 40, 24, 3
    made = problem(keys, frames, rows, depth, width, heads, keys, prompts=prompts)
    shape = (frames, prompts, rows) if each else (frames, rows)
    x, added = (torch.randn(*shape, size).to(DTYPES[dtype]) for size in (depth, width))
    a_matrix, b_matrix = (made[name].to(DTYPES[dtype]) for name in ("a_matrix", "b_matrix"))
    spec = kernel_spec(
        sm=sm, dtype=dtype, depth=depth, width=width, heads=heads, keys=keys, norm_eps=1e-5, x_per_prompt=each,
        residual=residual,
    )  # fmt: skip
    out = torch.full((frames, prompts, rows, width), torch.nan, dtype=DTYPES[dtype])
    pointers = {"x_ptr": x, "a_ptr": a_matrix, "a_bias_ptr": made["a_bias"], "b_ptr": b_matrix}
    pointers |= {"c_bias_ptr": made["c_bias"], "residual_ptr": added, "out_ptr": out}
    launch_specification(spec, {**pointers, "B": frames, "N": prompts, "M": rows})
    expected = prompt_attention(
        x.double(), a_matrix.double(), made["a_bias"].double(), b_matrix.double(), made["c_bias"].double(),
        heads=heads, residual=added.double() if residual else None, norm_eps=1e-5, implementation="reference",
    )  # fmt: skip
    assert (out.double() - expected).norm() <= BOUNDS[dtype] * expected.norm()


@pytest.mark.parametrize("sm", SMS)
def test_standard_specifications(sm):
    specs = standard_specs(sm)
    assert len({spec.name for spec in specs}) == len(specs)
    assert {spec.constants["D"] for spec in specs} == {768, 512, 64}
    assert any("bf16" in spec.name for spec in specs) == (sm >= 80)
    for spec in specs:
        pointers = [parameter.is_pointer for parameter in spec.parameters]
        assert pointers == [*sorted(pointers[:-1], reverse=True), True]  # inputs, numbers, the output
        assert all(parameter.shape for parameter in spec.parameters if parameter.is_pointer)
