"""The operator of torch: one node for torch.export and torch.compile, autocast, determinism, and what it imports."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd

from mmedge_kernels.cross_attention import cross_attention, operator, reference
from mmedge_kernels.cross_attention.tiles import backward_tiles, rows_per_part
from mmedge_kernels.tensors import choose_implementation


@pytest.fixture(params=["triton", "reference"])
def implementation(request):
    return request.param


class Block(nn.Module):
    """Cross-attention with its projections, as a model has it: heads inside the memory of q, k and v."""

    def __init__(self, implementation="reference", heads=2, head_dim=16):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(heads * head_dim, heads * head_dim) for _ in range(4))
        self.heads, self.implementation = heads, implementation

    def forward(self, image, text, key_mask=None):
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.q, image), (self.k, text), (self.v, text))
        )
        out = cross_attention(q, k, v, key_mask=key_mask, implementation=self.implementation)
        return self.o(out.transpose(1, 2).flatten(2))


def nodes(graph):
    return [str(node.target) for node in graph.nodes if "mmedge" in str(node.target)]


@pytest.mark.parametrize("optional", [False, True], ids=["plain", "all-arguments"])
@pytest.mark.parametrize("inside", [False, True], ids=["contiguous", "heads-inside"])
def test_opcheck(problem, implementation, optional, inside):
    made = problem(2, 2, 5, 7, 16, kv=1, mask=2 if optional else None, bias=(1, 5, 7) if optional else None, grad=True)
    q, k, v = (made.arguments[name].detach() for name in "qkv")
    if inside:
        q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    mask, bias = made.arguments.get("key_mask"), made.arguments.get("bias")
    torch.library.opcheck(operator.forward, (q, k, v, mask, bias, 0.25, implementation))
    out, lse = operator.forward(q, k, v, mask, bias, 0.25, implementation)
    with torch.no_grad():
        given = (torch.randn_like(out), q, k, v, mask, bias, 0.25, implementation, out, lse, optional)
        torch.library.opcheck(operator.backward, tuple(x.detach() if torch.is_tensor(x) else x for x in given))


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_export_has_one_node(device, masked):
    model = Block().to(device)
    image, text = torch.randn(2, 6, 32, device=device), torch.randn(2, 5, 32, device=device)
    mask = torch.ones(2, 5, dtype=torch.bool, device=device) if masked else None
    b, m, length = (torch.export.Dim(name, max=4096) for name in ("B", "M", "L"))
    shapes = ({0: b, 1: m}, {0: b, 1: length}, {0: b, 1: length} if masked else None)
    program = torch.export.export(model, (image, text, mask), dynamic_shapes=shapes)
    assert nodes(program.graph) == ["mmedge.cross_attention.default"]
    image, text = torch.randn(3, 9, 32, device=device), torch.randn(3, 4, 32, device=device)
    mask = torch.rand(3, 4, device=device) < 0.5 if masked else None
    torch.testing.assert_close(program.module()(image, text, mask), model(image, text, mask))


def test_export_of_one_prompt_for_many_frames(device):
    model = Block().to(device)
    dynamic = torch.export.Dim("B", max=64)
    given = (torch.randn(3, 6, 32, device=device), torch.randn(1, 5, 32, device=device))
    program = torch.export.export(model, given, dynamic_shapes=({0: dynamic}, None))
    assert nodes(program.graph) == ["mmedge.cross_attention.default"]
    given = (torch.randn(7, 6, 32, device=device), torch.randn(1, 5, 32, device=device))
    torch.testing.assert_close(program.module()(*given), model(*given))


def test_an_exported_program_chooses_at_each_call(device, monkeypatch):
    program = torch.export.export(
        Block("auto").to(device), (torch.randn(2, 6, 32, device=device), torch.randn(2, 5, 32, device=device))
    )
    asked = []
    monkeypatch.setattr(
        operator, "choose_implementation", lambda name, tensor: asked.append((name, tensor.device.type)) or "reference"
    )
    program.module()(torch.randn(2, 6, 32, device=device), torch.randn(2, 5, 32, device=device))
    assert asked == [("auto", device)]


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_compile_has_one_node_each_way(device, implementation, dynamic):
    model = Block(implementation).to(device)
    graphs = []

    def backend(graph, _):
        graphs.append(graph.graph)
        return make_boxed_func(graph.forward)

    compiled = torch.compile(
        model,
        backend=aot_autograd(fw_compiler=backend, bw_compiler=backend),
        fullgraph=True,
        dynamic=dynamic,
    )
    image, text = torch.randn(2, 6, 32, device=device), torch.randn(2, 5, 32, device=device)
    compiled(image, text).square().sum().backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    assert [nodes(graph) for graph in graphs] == [
        ["mmedge.cross_attention.default"],
        ["mmedge.cross_attention_backward.default"],
    ]
    model.zero_grad()
    model(image, text).square().sum().backward()
    for mine, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad)


def test_compile_with_every_argument(problem, implementation):
    made = problem(2, 2, 5, 7, 16, kv=1, mask=2, bias=(1, 5, 7), scale=0.3)
    compiled = torch.compile(cross_attention, backend="eager", fullgraph=True, dynamic=True)
    expected = cross_attention(**made.arguments, implementation=implementation)
    assert torch.equal(compiled(**made.arguments, implementation=implementation), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(problem, device, implementation, dtype):
    made = problem(1, 2, 5, 7, 16, bias=(5, 7), grad=True)
    made.arguments["k"] = made.arguments["k"].detach().half().requires_grad_()  # as a layer under autocast leaves it
    with torch.autocast(device, dtype=dtype):
        out = cross_attention(**made.arguments, implementation=implementation)
    assert out.dtype == dtype
    narrow = {name: made.arguments[name].detach().to(dtype) for name in ("q", "k", "v", "bias")}
    assert torch.equal(out, cross_attention(**narrow, implementation=implementation))
    out.float().square().sum().backward()
    assert {name: leaf.grad.dtype for name, leaf in made.leaves.items()} == {
        "q": torch.float32, "k": torch.float16, "v": torch.float32, "bias": torch.float32,
    }  # fmt: skip


def test_autocast_leaves_float64(problem, device):
    made = problem(1, 2, 5, 7, 16, dtype=torch.float64)
    with torch.autocast(device, dtype=torch.bfloat16):
        out = cross_attention(**made.arguments)
    torch.testing.assert_close(out, reference.forward(**made.exact())[0].detach(), atol=1e-13, rtol=0.0)


@pytest.mark.parametrize("sizes", [(2, 1, 33, 40, 16), (1, 1, 5, 150, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_same_bits_each_time(problem, implementation, sizes, dtype):
    made = problem(*sizes, kv=1, mask=1, bias=(1, sizes[2], sizes[3]), dtype=dtype, grad=True)

    def run():
        out = cross_attention(**made.arguments, implementation=implementation)
        return [out, *torch.autograd.grad(out.float().square().sum(), list(made.leaves.values()))]

    assert all(map(torch.equal, run(), run()))


def test_frames_do_not_influence_each_other(problem, implementation):
    made = problem(3, 2, 5, 7, 16, kv=1)
    whole = cross_attention(**made.arguments, implementation=implementation)
    made.arguments["q"] = made.arguments["q"][1:2].contiguous()
    torch.testing.assert_close(cross_attention(**made.arguments, implementation=implementation), whole[1:2])


def test_only_the_output_is_differentiable(problem, implementation):
    made = problem(1, 1, 2, 3, 16, grad=True)
    out, lse = operator.forward(*made.leaves.values(), None, None, 0.25, implementation)
    assert (out.requires_grad, lse.requires_grad) == (True, False)


def test_meta_tensors_give_shapes():
    q = torch.empty(2, 5, 3, 16, device="meta").transpose(1, 2)
    k = torch.empty(1, 3, 7, 16, device="meta")
    out = cross_attention(q, k, k, key_mask=torch.empty(2, 7, dtype=torch.bool, device="meta"))
    assert out.device.type == "meta"
    assert (out.shape, out.stride()) == (q.shape, q.stride())


def test_auto_takes_what_fits_the_device(device):
    half = torch.zeros(1, dtype=torch.float16, device=device)
    assert choose_implementation("auto", half) == ("triton" if device == "cuda" else "reference")
    assert choose_implementation("auto", half.double()) == "reference"


def test_without_triton_auto_takes_the_reference():
    code = (
        "import sys, torch; sys.modules['triton'] = None\n"
        "from mmedge_kernels.cross_attention import cross_attention\n"
        "from mmedge_kernels.errors import ImplementationError\n"
        "x = torch.randn(1, 1, 2, 4, requires_grad=True)\n"
        "cross_attention(x, x, x).sum().backward()\n"
        "try: cross_attention(x, x, x, implementation='triton')\n"
        "except ImplementationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'triton" in done.stdout, done.stderr


def test_triton_is_imported_when_it_is_needed():
    code = (
        "import sys, torch\n"
        "from mmedge_kernels.cross_attention import cross_attention\n"
        "x = torch.randn(1, 1, 2, 4)\n"
        "cross_attention(x, x, x)\n"
        "assert 'mmedge_kernels.cross_attention.launch' not in sys.modules\n"
        "assert 'mmedge_kernels.cross_attention.triton' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_forced_triton_on_the_cpu_without_the_interpreter():
    code = (
        "import torch\n"
        "from mmedge_kernels.cross_attention import cross_attention\n"
        "from mmedge_kernels.errors import ImplementationError\n"
        "x = torch.randn(1, 1, 2, 4)\n"
        "try: cross_attention(x, x, x, implementation='triton')\n"
        "except ImplementationError as error: print(error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "got a tensor on device cpu" in done.stdout, done.stderr


def test_parts_of_the_queries_fill_a_gpu():
    tiles = backward_tiles(queries=4096, keys=16, head_dim=64, dtype="fp16", sm=90)
    rows = rows_per_part(heads=12, queries=4096, keys=16, tiles=tiles)
    assert rows % tiles.block_m == 0
    assert 12 * -(-4096 // rows) > 300
    assert rows_per_part(heads=4096, queries=4096, keys=16, tiles=tiles) >= 4096
    assert rows_per_part(heads=1, queries=5, keys=1, tiles=tiles) >= 5
