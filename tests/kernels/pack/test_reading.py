"""Opening packs and finding kernels in them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.pack_entries import kernel_entry

from mmedge_kernels.errors import KernelError, PackError
from mmedge_kernels.pack import PackedFile, open_pack


def test_a_pack(make_pack):
    pack = open_pack(make_pack(kernel_entry(), kernel_entry("bare", ptx=None)))
    assert [kernel.name for kernel in pack.kernels] == ["softmax-fp16", "bare"]
    assert pack.read(pack.kernels[0].cubin) == b"machine code"
    assert pack.read(pack.kernels[0].ptx) == b"text"
    with pytest.raises(PackError, match="has no file 'other'"):
        pack.read(PackedFile("other", 1, "0" * 64))


def test_no_pack(tmp_path):
    for place in (tmp_path, tmp_path / "nothing", tmp_path / "file" / "pack"):
        (tmp_path / "file").touch()
        with pytest.raises(PackError, match=r"no kernel pack at .*: expected a folder with pack\.json"):
            open_pack(place)


def damage_size(folder):
    with (folder / "softmax-fp16-sm87.cubin").open("ab") as file:
        file.write(b"!")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "softmax-fp16-sm87.cubin").unlink(), r"lacks softmax-fp16-sm87\.cubin; copy or make"),
        (lambda f: (f / "softmax-fp16-sm87.cubin").write_bytes(b"machine cod!"), "does not have the hash that pack"),
        (lambda f: (f / "softmax-fp16-sm87.ptx").write_bytes(b"test"), "does not have the hash that pack.json names"),
        (lambda f: (f / "softmax-fp16-sm87.cubin").write_bytes(b""), "must have 12 bytes, it has 0"),
        (damage_size, "must have 12 bytes, it has 13"),
        (lambda f: (f / "pack.json").write_bytes(b"\xff\xfe"), "is no text"),
        (lambda f: (f / "pack.json").write_text("{"), "is no JSON"),
        (lambda f: (f / "pack.json").write_bytes(b" " * (17 << 20)), "it is no kernel pack"),
    ],
    ids=["missing", "changed", "changed-ptx", "empty", "longer", "no-text", "no-json", "large"],
)
def test_damaged_packs(make_pack, damage, message):
    folder = make_pack(kernel_entry())
    damage(folder)
    with pytest.raises(PackError, match=message):
        open_pack(folder)


def test_a_changed_manifest(make_pack):
    folder = make_pack(kernel_entry())
    value = json.loads((folder / "pack.json").read_text())
    value["kernels"][0]["cubin"]["file"] = "../../etc/passwd"
    (folder / "pack.json").write_text(json.dumps(value))
    with pytest.raises(PackError, match=r"cubin\.file must be a string of the form"):
        open_pack(folder)


@pytest.fixture
def pack(make_pack):
    others = [kernel_entry(sm=sm) for sm in (80, 86)]
    return open_pack(make_pack(kernel_entry(), *others, kernel_entry("long", constants={"block": 512, "fast": True})))


@pytest.mark.parametrize(("sm", "found"), [(87, 87), (80, 80), (86, 86), (89, 86)])
def test_the_nearest_architecture_is_taken(pack, sm, found):
    assert pack.find("softmax", sm, block=128).sm == found
    assert pack.named("softmax-fp16", sm).sm == found


def test_find_by_constants_and_types(pack):
    assert pack.find("softmax", 87, block=512).name == "long"
    assert pack.find("softmax", 87, block=128, x_ptr="*fp16", bias_ptr=None, scale=0.5).name == "softmax-fp16"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"block": 64},
            "no kernel that fits softmax, block=64; the standard kernels are made by: python -m",
        ),
        ({"x_ptr": "*fp32"}, r"fits softmax, x_ptr='\*fp32'"),
        ({"blok": 128}, "fits softmax, blok=128"),
        ({"fast": 1}, "fits softmax, fast=1"),  # True is not 1
        ({}, "several kernels fit softmax: softmax-fp16, long; say more"),
    ],
    ids=str,
)
def test_nothing_or_too_much(pack, wanted, message):
    with pytest.raises(PackError, match=message):
        pack.find("softmax", 87, **wanted)


def test_another_operator(pack):
    with pytest.raises(PackError, match="has no kernel that fits conv"):
        pack.find("conv", 87)
    with pytest.raises(PackError, match="fits name 'nothing'"):
        pack.named("nothing", 87)


@pytest.mark.parametrize(
    ("sm", "reason"),
    [
        (75, r"sm_80 \(another major version\), sm_86 \(another major version\), sm_87 \(another major version\)"),
        (90, r"sm_80 \(another major version\)"),
        (110, "does not run on this GPU of sm_110; make a pack for it: .* --target sm_110"),
    ],
)
def test_a_pack_for_another_gpu(pack, sm, reason):
    with pytest.raises(PackError, match=reason):
        pack.find("softmax", sm, block=128)


def test_sm_80_does_not_run_on_orin(make_pack):
    pack = open_pack(make_pack(kernel_entry(sm=80)))
    with pytest.raises(PackError, match=r"sm_80 \(Jetson chips run code of their own .*\), .* not run .* sm_87"):
        pack.named("softmax-fp16", 87)


def test_the_error_is_a_kernel_error():
    assert issubclass(PackError, KernelError)
    assert issubclass(PackError, RuntimeError)


def test_import_needs_nothing_but_the_standard_library():
    code = (
        "import sys, mmedge_kernels.pack\n"
        "bad = {'torch', 'triton', 'pycuda', 'numpy', 'tensorrt', 'mmedge'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
