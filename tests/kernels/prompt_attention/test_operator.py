"""`prompt_attention` as a torch operator: gradients, tracing, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from mmedge_kernels.errors import ImplementationError, TensorError
from mmedge_kernels.prompt_attention import prompt_attention
from mmedge_kernels.prompt_attention.operator import prompt_attention_op

TENSORS = ("x", "a_matrix", "a_bias", "b_matrix", "c_bias", "residual")


def case(problem, prompts, rows):
    """Float64 arguments; rows: "shared" or "each" for x and residual."""
    arguments = problem(1, 2, 9, 10, 10, 3, 4, prompts=prompts)
    shape = (2, prompts, 9, 10) if rows == "each" else (2, 9, 10)
    arguments["x"] = torch.randn(shape, device=arguments["x"].device)
    arguments["residual"] = torch.randn(shape, device=arguments["x"].device)
    arguments["norm_eps"] = 1e-3
    mask = torch.ones(3, 4, dtype=torch.bool) if prompts else torch.ones(4, dtype=torch.bool)
    mask[..., 2] = False
    if prompts:
        mask[1] = False
    arguments["mask"] = mask.to(arguments["x"].device)
    return {name: value.double() if name in TENSORS else value for name, value in arguments.items()}


@pytest.mark.parametrize(("prompts", "rows"), [(None, "shared"), (3, "shared"), (3, "each")])
def test_gradients_against_finite_differences(problem, prompts, rows):
    arguments = case(problem, prompts, rows)
    inputs = tuple(arguments[name].requires_grad_() for name in TENSORS)

    def run(*tensors):
        return prompt_attention(**{**arguments, **dict(zip(TENSORS, tensors, strict=True))})

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize(("prompts", "rows"), [(None, "shared"), (3, "shared"), (3, "each")])
def test_gradients_through_the_kernel(problem, prompts, rows):
    exact = case(problem, prompts, rows)
    single = {name: value.float() if name in TENSORS else value for name, value in exact.items()}
    upstream = None
    gradients = {}
    for name, arguments, implementation in (("exact", exact, "reference"), ("kernel", single, "triton")):
        inputs = [arguments[t].requires_grad_() for t in TENSORS]
        out = prompt_attention(**arguments, implementation=implementation)
        upstream = torch.randn_like(out) if upstream is None else upstream
        gradients[name] = torch.autograd.grad(out, inputs, upstream.to(out.dtype))
    for got, expected in zip(gradients["kernel"], gradients["exact"], strict=True):
        assert got.shape == expected.shape
        assert (got - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize(("prompts", "rows"), [(None, "shared"), (3, "each")])
def test_registration(problem, prompts, rows):
    arguments = {name: v.float() if name in TENSORS else v for name, v in case(problem, prompts, rows).items()}
    order = ("x", "a_matrix", "a_bias", "b_matrix", "c_bias", "heads", "mask", "residual", "norm_eps")
    for name in TENSORS:
        arguments[name].requires_grad_()
    torch.library.opcheck(prompt_attention_op, (*(arguments[name] for name in order), "reference"))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x, a_matrix, a_bias, b_matrix, c_bias):
        return prompt_attention(self.inner(x), a_matrix, a_bias, b_matrix, c_bias, heads=2, residual=x, norm_eps=1e-5)


@pytest.fixture
def block_inputs():
    torch.manual_seed(0)
    return tuple(torch.randn(shape) for shape in ((2, 11, 8), (8, 6), (6,), (6, 8), (8,)))


def test_export_sees_one_node_with_dynamic_sizes(block_inputs):
    batch, rows = torch.export.Dim("batch"), torch.export.Dim("rows")
    program = torch.export.export(Block(), block_inputs, dynamic_shapes=({0: batch, 1: rows}, *(None,) * 4))
    nodes = [node for node in program.graph.nodes if "mmedge" in str(node.target)]
    assert [str(node.target) for node in nodes] == ["mmedge.prompt_attention.default"]
    other = (torch.randn(3, 5, 8), *block_inputs[1:])
    assert program.module()(*other).shape == (3, 5, 8)


def test_compile_takes_it_whole_with_gradients(block_inputs):
    torch.manual_seed(1)
    block = Block()
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    upstream = torch.randn(2, 11, 8)
    gradients = [
        torch.autograd.grad(run(*block_inputs), list(block.parameters()), upstream) for run in (block, compiled)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("implementation", ["reference", "triton"])
def test_autocast_takes_its_dtype(problem, implementation):
    arguments = problem(3, 1, 9, 10, 10, 3, 4) | {"norm_eps": 1e-3}
    half = {
        name: value.bfloat16() if name in ("x", "a_matrix", "b_matrix") else value for name, value in arguments.items()
    }
    with torch.autocast(arguments["x"].device.type, dtype=torch.bfloat16):
        got = prompt_attention(**arguments, implementation=implementation)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, prompt_attention(**half, implementation=implementation))


GOOD = {
    "x": torch.zeros(2, 9, 12),
    "a_matrix": torch.zeros(12, 15),
    "a_bias": torch.zeros(15),
    "b_matrix": torch.zeros(15, 8),
    "c_bias": torch.zeros(8),
    "heads": 3,
}
MANY = {
    "a_matrix": torch.zeros(4, 12, 15),
    "a_bias": torch.zeros(4, 15),
    "b_matrix": torch.zeros(4, 15, 8),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(9, 12)}, r"x must have 3 or 4 dimensions \[B, M, D\]"),
        ({"x": torch.zeros(2, 0, 12)}, r"x .* no dimension of size 0, got shape \[2, 0, 12\]"),
        ({"x": torch.zeros(2, 9, 12, dtype=torch.int32)}, "x must be .*, got int32"),
        ({"x": torch.zeros(2, 9, 13)}, r"a_matrix must have shape \[D, H \* L\] = \[13, 15\], got \[12, 15\]"),
        ({"x": torch.zeros(2, 9, 12, dtype=torch.float16)}, "a_matrix must be float16, got float32"),
        ({"x": torch.zeros(2, 4, 9, 12)}, r"x \[B, N, M, D\] must match matrices \[N, ., .\]"),
        ({**MANY, "x": torch.zeros(2, 3, 9, 12)}, r"x \[B, N, M, D\] must match N = 4 prompts, got \[2, 3, 9, 12\]"),
        ({"heads": 4}, "heads must be a whole number that divides a_matrix's 15 columns, got 4"),
        ({"heads": True}, "heads must be a whole number"),
        ({"a_bias": torch.zeros(14)}, r"a_bias must have shape \[H \* L\] = \[15\], got \[14\]"),
        ({"a_bias": torch.zeros(15, dtype=torch.float64)}, "a_bias must be .*, got float64"),
        ({"b_matrix": torch.zeros(14, 8)}, r"b_matrix must have shape \[H \* L, E\] = \[15, 8\], got \[14, 8\]"),
        ({**MANY, "b_matrix": torch.zeros(3, 15, 8)}, r"b_matrix must have shape .* \[4, 15, 8\], got \[3, 15, 8\]"),
        ({"b_matrix": torch.zeros(4, 15, 8)}, r"b_matrix must have 2 dimensions"),
        ({"c_bias": torch.zeros(9)}, r"c_bias must have shape \[E\] = \[8\], got \[9\]"),
        ({"mask": torch.zeros(5)}, "mask must be bool, got float32"),
        ({"mask": torch.ones(4, dtype=torch.bool)}, r"mask must have shape \[L\] = \[5\], got \[4\]"),
        ({"mask": torch.ones(2, 5, dtype=torch.bool)}, r"mask must be \[L\] for matrices without N"),
        (
            {**MANY, "mask": torch.ones(3, 5, dtype=torch.bool)},
            r"mask must have shape .* \[4, 5\], got \[3, 5\]",
        ),
        ({"residual": torch.zeros(2, 9, 12)}, r"residual must have shape .* \[2, 9, 8\], got \[2, 9, 12\]"),
        ({"residual": torch.zeros(2, 4, 9, 8)}, r"residual must be \[B, M, E\] for matrices without N"),
        ({"norm_eps": -1.0}, "norm_eps must be a finite float of at least 0"),
        ({"norm_eps": float("nan")}, "norm_eps must be a finite float"),
        ({"a_matrix": torch.zeros(12, 15, device="meta")}, "a_matrix must be on cpu"),
        ({"implementation": "cuda"}, 'implementation must be "auto", "triton" or "reference", got \'cuda\''),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_does_not_fit(change, message):
    with pytest.raises(TensorError, match=message):
        prompt_attention(**{**GOOD, **change})


def test_float64_is_for_the_reference():
    arguments = {name: value.double() if isinstance(value, torch.Tensor) else value for name, value in GOOD.items()}
    assert prompt_attention(**arguments).dtype == torch.float64
    with pytest.raises(TensorError, match="float64"):
        prompt_attention(**arguments, implementation="triton")


def test_prompt_too_long_for_the_kernel(problem):
    arguments = problem(0, 1, 2, 4, 4, 1, 513)
    prompt_attention(**arguments, implementation="reference")
    with pytest.raises(TensorError, match="prompts of at most 512 tokens, got 513"):
        prompt_attention(**arguments, implementation="triton")


def test_forced_kernel_without_a_gpu(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    code = (
        "import torch\n"
        "from mmedge_kernels.errors import ImplementationError\n"
        "from mmedge_kernels.prompt_attention import prompt_attention\n"
        "z = torch.zeros\n"
        "arguments = z(1, 2, 4), z(4, 2), z(2), z(2, 4), z(4)\n"
        "assert prompt_attention(*arguments, heads=1).shape == (1, 2, 4)\n"
        "try:\n    prompt_attention(*arguments, heads=1, implementation='triton')\n"
        "except ImplementationError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "got a tensor on device cpu" in done.stdout
    assert issubclass(ImplementationError, RuntimeError)
