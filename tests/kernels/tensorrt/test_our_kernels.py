"""The kernels of `cross_attention` and `prompt_attention` as nodes of an engine."""

from __future__ import annotations

import pytest

from mmedge_kernels.aot.build import compile_for
from mmedge_kernels.aot.collect import collect_specs
from mmedge_kernels.aot.targets import find_target
from mmedge_kernels.aot.write import write_pack
from mmedge_kernels.errors import PackError
from mmedge_kernels.pack import open_pack
from mmedge_kernels.pack.ptx import read_ptx
from mmedge_kernels.tensorrt import register_plugins

SIZES = {"b": 2, "n": 3, "m": 197}


@pytest.fixture(scope="module")
def our_pack(tmp_path_factory):
    """For Orin: cross-attention to 8 and to any number of keys, with and without a mask; prompt attention to 8."""
    standard = collect_specs([87], ["cross_attention", "prompt_attention"])
    marks = ("cross_attention-fp16-d64-l8", "cross_attention-fp16-d64-any", "prompt_attention-fp16-d64-h4-l8-")
    targets, out = [find_target("jetson-orin-jp7")], tmp_path_factory.mktemp("packs") / "pack"
    write_pack(out, compile_for(targets, [s for s in standard if s.name.startswith(marks)]), targets)
    return open_pack(out)


@pytest.fixture
def ready(builder, our_pack):
    register_plugins(our_pack, sm=87)
    return builder


def at(sizes, values):
    return [value.at(sizes) for value in values]


def test_what_is_registered(builder, our_pack):
    names = ("cross_attention", "cross_attention_masked", "prompt_attention_residual")
    assert register_plugins(our_pack, sm=87) == tuple(f"mmedge::{name}" for name in names)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("prompts", [1, "b"])
def test_cross_attention(ready, our_pack, masked, prompts):
    """q of two frames with twelve heads; keys of one prompt for both, or of one for each."""
    keys = ("HALF", (prompts, 12, 8, 64))
    tensors = [("HALF", ("b", 12, "m", 64)), keys, keys, *([("BOOL", (prompts, 8))] if masked else [])]
    built = ready.build("cross_attention_masked" if masked else "cross_attention", tensors, {"scale": 0.125})
    kernel = our_pack.named(f"cross_attention-fp16-d64-l8{'-masked' if masked else ''}", 87)
    assert built.ptx == our_pack.read(kernel.ptx).decode()
    assert at(SIZES, built.out_shape) == [2, 12, 197, 64]
    numbers = dict(zip((p.name for p in kernel.parameters if not p.is_pointer), at(SIZES, built.extra), strict=True))
    assert numbers == {"H": 12, "M": 197, "KB": 1 if prompts == 1 else 2}
    rows = next(axis for axis in kernel.grid if "M" in axis.product).divisor
    assert sorted(at(SIZES, [built.params[f"grid_{axis}"] for axis in "xyz"])) == sorted([24, -(-197 // rows), 1])
    assert built.params["block_x"].at({}) == kernel.warps * 32
    assert built.params["shared_mem"].at({}) == kernel.shared_bytes <= 48 << 10


def test_keys_for_other_frames(ready):
    keys = ("HALF", (2, 12, 8, 64))
    with pytest.raises(PackError, match=r"mmedge::cross_attention\(.*\): k must have a first size of 1 or 3, it has 2"):
        ready.build("cross_attention", [("HALF", (3, 12, "m", 64)), keys, keys], {"scale": 0.125})


def prompt_node(keys=8, heads=4):
    x, columns = ("HALF", ("b", "n", "m", 64)), heads * keys
    matrices = [("HALF", ("n", 64, columns)), ("FLOAT", ("n", columns)), ("HALF", ("n", columns, 64))]
    return [x, *matrices, ("FLOAT", (64,)), x]


def test_prompt_attention(ready, our_pack):
    built = ready.build("prompt_attention_residual", prompt_node(), {"heads": 4, "norm_eps": 1e-5})
    (kernel,) = [kernel for kernel in our_pack.kernels if kernel.operator == "prompt_attention"]
    assert built.ptx == our_pack.read(kernel.ptx).decode()
    assert at(SIZES, built.out_shape) == [2, 3, 197, 64]
    assert at(SIZES, built.extra) == [197, 3]
    assert built.params["grid_z"].at(SIZES) == 6
    assert [p.kind for p in read_ptx(built.ptx).parameters] == ["pointer"] * 6 + ["i32"] * 2 + ["pointer"]


@pytest.mark.parametrize(
    ("node", "attributes"),
    [
        (prompt_node(), {"heads": 2, "norm_eps": 1e-5}),
        (prompt_node(), {"heads": 4, "norm_eps": -1.0}),
        (prompt_node(), {"heads": 4, "norm_eps": 1e-6}),
        (prompt_node(keys=9), {"heads": 4, "norm_eps": 1e-5}),
    ],
    ids=["heads", "no-norm", "eps", "keys"],
)
def test_what_the_pack_lacks(ready, node, attributes):
    with pytest.raises(PackError, match=r"has no kernel that fits mmedge::prompt_attention_residual\(x: fp16 \[\?, \?"):
        ready.build("prompt_attention_residual", node, attributes)
