"""A node of our domain becomes one of our kernels: which one, with which grid and which arguments."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.kernel_specs import compiled_softmax

from mmedge_kernels.aot.targets import find_target
from mmedge_kernels.aot.write import write_pack
from mmedge_kernels.errors import ImplementationError, PackError
from mmedge_kernels.pack import KernelPack, open_pack
from mmedge_kernels.pack.ptx import read_ptx
from mmedge_kernels.tensorrt import OPERATORS, register_plugins
from mmedge_kernels.tensorrt.plugins import plugin_ptx

SCALE = {"scale": 0.1}


def node(kind="HALF", batch=2, heads=3, rows=5, keys=7, width=64):
    q, k = (batch, heads, rows, width), (batch, heads, keys, width)
    return [(kind, q), (kind, k), (kind, k)]


def test_what_is_registered(builder, pack):
    assert register_plugins(pack, sm=87) == ("mmedge::cross_attention",)
    assert builder.registered() == {"mmedge::cross_attention"}


def test_a_pack_by_its_path(builder, pack):
    assert register_plugins(str(pack.path), sm=80) == ("mmedge::cross_attention",)


def test_known_sizes(builder, pack):
    register_plugins(pack, sm=87)
    built = builder.build("cross_attention", node(), SCALE)
    params = {name: value.at({}) for name, value in built.params.items()}
    assert built.entry == "weighted_sum"
    assert (built.out_type, [size.at({}) for size in built.out_shape]) == ("HALF", [2, 3, 5, 64])
    assert [value.at({}) for value in built.extra] == [5, 7]
    assert params == {"grid_x": 5, "grid_y": 6, "grid_z": 1, "block_x": 64, "block_y": 1, "block_z": 1, "shared_mem": 0}
    kernel = pack.named("weighted_sum-fp16-w64", 87)
    assert built.ptx == pack.read(kernel.ptx).decode()


def test_ptx_expects_what_tensorrt_passes(builder, pack):
    register_plugins(pack, sm=87)
    built = builder.build("cross_attention", node(), SCALE)
    kinds = [parameter.kind for parameter in read_ptx(built.ptx).parameters]
    assert kinds == ["pointer"] * 3 + ["i32"] * len(built.extra) + ["pointer"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({name: st.integers(1, 4096) for name in ("b", "h", "m", "l")}))
def test_sizes_that_are_known_when_the_engine_runs(registered, sizes):
    built = registered.build("cross_attention", node(batch="b", heads="h", rows="m", keys="l"), SCALE)
    assert [value.at(sizes) for value in built.extra] == [sizes["m"], sizes["l"]]
    assert built.params["grid_x"].at(sizes) == sizes["m"]
    assert built.params["grid_y"].at(sizes) == sizes["b"] * sizes["h"]
    assert [size.at(sizes) for size in built.out_shape] == [sizes["b"], sizes["h"], sizes["m"], 64]


@pytest.fixture
def registered(builder, pack):
    register_plugins(pack, sm=87)
    return builder


@pytest.mark.parametrize(
    ("kind", "width", "scale", "name"),
    [
        ("HALF", 64, 0.1, "weighted_sum-fp16-w64"),
        ("FLOAT", 64, 0.1, "weighted_sum-fp32-w64"),
        ("HALF", 32, 0.1, "weighted_sum-fp16-w32"),
        ("HALF", 64, 0.2, "weighted_sum-fp16-w64-other"),
    ],
)
def test_types_sizes_and_attributes_choose_the_kernel(registered, pack, kind, width, scale, name):
    built = registered.build("cross_attention", node(kind, width=width), {"scale": scale})
    assert built.ptx == pack.read(pack.named(name, 87).ptx).decode()
    assert built.out_type == kind


@pytest.mark.parametrize(
    ("tensors", "scale", "message"),
    [
        (
            node("BF16"),
            0.1,
            r"q: bf16 \[2, 3, 5, 64\], .*; scale=0.1\); the standard kernels are made by: .* --target sm_87",
        ),
        (node(width=48), 0.1, r"q: fp16 \[2, 3, 5, 48\]"),
        (node(width="d"), 0.1, r"q: fp16 \[2, 3, 5, \?\]"),
        (node(), 0.3, "scale=0.3"),
        ([*node()[:2], ("HALF", (2, 3, 8, 64))], 0.1, r"k: fp16 \[2, 3, 7, 64\], v: fp16 \[2, 3, 8, 64\]"),
        ([*node()[:2], ("FLOAT", (2, 3, 7, 64))], 0.1, r"v: fp32 \[2, 3, 7, 64\]"),
    ],
    ids=["type", "width", "unknown-width", "scale", "keys-differ", "types-differ"],
)
def test_a_node_that_no_kernel_fits(registered, tensors, scale, message):
    with pytest.raises(PackError, match=rf"has no kernel that fits mmedge::cross_attention.*{message}"):
        registered.build("cross_attention", tensors, {"scale": scale})


def test_a_node_with_other_dimensions(registered):
    tensors = [("HALF", (2, 5, 64))] * 3
    with pytest.raises(PackError, match=r"takes tensors of \[\(4, 4, 4\)\] dimensions, got \(3, 3, 3\)"):
        registered.build("cross_attention", tensors, SCALE)


def test_the_code_of_the_gpu_is_taken(builder, pack):
    register_plugins(pack, sm=80)
    built = builder.build("cross_attention", node(), SCALE)
    assert read_ptx(built.ptx).target == "sm_80"


def test_registering_twice(builder, pack):
    register_plugins(pack, sm=87)
    with pytest.raises(PackError, match=r"TensorRT did not take mmedge::cross_attention: .*register once a process"):
        register_plugins(pack, sm=87)


def test_a_pack_for_another_gpu(builder, pack):
    with pytest.raises(PackError, match=r"sm_87 \(another major version\), which does not run on this GPU of sm_110"):
        register_plugins(pack, sm=110)
    assert builder.registered() == set()


def test_a_pack_without_plugin_kernels(builder, tmp_path):
    write_pack(tmp_path / "pack", [compiled_softmax()], [find_target("sm_87")])
    with pytest.raises(PackError, match=r"has no kernel for mmedge::cross_attention, .*mmedge::prompt_attention"):
        register_plugins(tmp_path / "pack", sm=87)


def changed(pack, **changes):
    """The pack with its first kernel changed."""
    kernel = replace(pack.kernels[0], **changes)
    files = {kernel.ptx.file: pack.read(kernel.ptx)} if kernel.ptx is not None else {}
    return KernelPack(pack.path, pack.manifest, files), kernel


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ptx": None}, "has no PTX: it was compiled without plugin=True"),
        ({"shared_bytes": 50_000}, "needs 50000 bytes of shared memory, an engine gives 49152"),
        ({"entry": "other"}, r"is weighted_sum\(pointer, .*\), pack.json says other\("),
    ],
    ids=["none", "shared", "entry"],
)
def test_ptx_that_cannot_be_used(pack, changes, message):
    with pytest.raises(PackError, match=message):
        plugin_ptx(*changed(pack, **changes))


def test_ptx_that_still_has_scratch_parameters(pack):
    fewer = replace(pack.kernels[0], parameters=pack.kernels[0].parameters[:-2])
    with pytest.raises(PackError, match=r"pack\.json says weighted_sum.*; make the pack again"):
        plugin_ptx(pack, fewer)


def test_numbers_that_the_code_takes_for_multiples(builder, pack, tmp_path):
    """Sizes of 16, 32, ... are only compiled in where the engine can be sure of them."""
    first = next(c for c in pack.kernels if c.name == "weighted_sum-fp16-w64" and c.sm == 87)
    parameters = tuple(replace(p, aligned=True) for p in first.parameters)
    manifest = replace(pack.manifest, kernels=(replace(first, parameters=parameters),))
    files = {entry.file: pack.read(entry) for entry in (first.cubin, first.ptx)}
    register_plugins(KernelPack(tmp_path, manifest, files), sm=87)
    built = builder.build("cross_attention", node(rows=32, keys=16), SCALE)
    assert [value.at({}) for value in built.extra] == [32, 16]
    for rows in (33, "m"):
        with pytest.raises(PackError, match="has no kernel that fits"):
            builder.build("cross_attention", node(rows=rows, keys=16), SCALE)


def test_without_tensorrt(pack, no_tensorrt):
    no_tensorrt(None)
    with pytest.raises(ImplementationError, match=r"plugins need TensorRT 10\.9 or newer with its Python bindings"):
        register_plugins(pack, sm=87)


def test_tensorrt_of_jetpack_6(pack, no_tensorrt):
    no_tensorrt(ModuleType("tensorrt.plugin"))
    with pytest.raises(ImplementationError, match=r"this TensorRT \(10\.3\.0\) has no ahead-of-time plugins"):
        register_plugins(pack, sm=87)


def test_operators_are_named_after_their_key():
    assert {name: operator.identifier for name, operator in OPERATORS.items()} == {
        name: f"mmedge::{name}" for name in OPERATORS
    }


def test_import_needs_nothing_but_the_standard_library():
    code = (
        "import sys, mmedge_kernels.tensorrt\n"
        "bad = {'torch', 'triton', 'pycuda', 'numpy', 'tensorrt', 'mmedge'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_pack_is_one_that_a_device_could_open(pack):
    assert open_pack(pack.path).kernels == pack.kernels
