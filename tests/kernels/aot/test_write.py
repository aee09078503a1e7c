"""A pack appears whole or not at all, and nothing else is replaced."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest
from support.kernel_specs import compiled_softmax, softmax_spec

from mmedge_kernels.aot import build_pack, find_target
from mmedge_kernels.aot.write import write_pack
from mmedge_kernels.errors import CompileError, PackError
from mmedge_kernels.pack import PackTarget, open_pack

TARGETS = [find_target("jetson-orin-jp6")]


def write(out, name="softmax-fp16"):
    compiled = compiled_softmax()
    write_pack(out, [replace(compiled, kernel=replace(compiled.kernel, name=name))], TARGETS)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_can_be_opened(tmp_path):
    write(tmp_path / "packs" / "orin")
    pack = open_pack(tmp_path / "packs" / "orin")
    (kernel,) = pack.kernels
    assert kernel == compiled_softmax().kernel
    assert pack.read(kernel.cubin) == compiled_softmax().cubin
    assert pack.read(kernel.ptx) == compiled_softmax().ptx
    assert pack.manifest.producer == {"triton": compiled_softmax().triton}
    assert pack.manifest.targets == (PackTarget("jetson-orin-jp6", (87,), "12.6", "8.5"),)
    assert sorted(contents(pack.path)) == ["pack.json", "softmax-fp16-sm87.cubin", "softmax-fp16-sm87.ptx"]


def test_the_same_kernels_give_the_same_bytes(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_pack_is_replaced_and_nothing_stays_behind(tmp_path):
    write(tmp_path / "pack")
    write(tmp_path / "pack", "other")
    assert [kernel.name for kernel in open_pack(tmp_path / "pack").kernels] == ["other"]
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_a_link_to_a_pack_stays_a_link(tmp_path):
    write(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", "other")
    assert (tmp_path / "link").is_symlink()
    assert [kernel.name for kernel in open_pack(tmp_path / "real").kernels] == ["other"]


@pytest.mark.parametrize("what", ["folder", "file", "empty"])
def test_what_is_no_pack_is_not_replaced(tmp_path, what):
    out = tmp_path / "out"
    if what == "file":
        out.write_text("precious")
    else:
        out.mkdir()
    if what == "folder":
        (out / "thesis.tex").write_text("precious")
    with pytest.raises(PackError, match="is there and is no kernel pack: it is not replaced"):
        write(out)
    assert out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("out", ["", "..", "x/.."])
def test_no_name(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PackError, match="no name for a pack"):
        write_pack(tmp_path.joinpath(out) if out == "x/.." else type(tmp_path)(out), [compiled_softmax()], TARGETS)


STEPS = ("cubin", "ptx", "pack.json", "folder", "rename")


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, step):
    write(tmp_path / "pack")
    before = contents(tmp_path / "pack")
    sync, steps = os.fsync, iter(STEPS)

    def failing(handle):
        if next(steps) == step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(PackError, match=r"was not written: .*No space left on device"):
        write(tmp_path / "pack", "other")
    monkeypatch.undo()
    assert contents(tmp_path / "pack") == before
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_a_rename_that_fails_brings_the_old_pack_back(tmp_path, monkeypatch):
    write(tmp_path / "pack")
    before = contents(tmp_path / "pack")
    path_type = type(tmp_path)
    rename = path_type.rename

    def failing(self, target):
        if self.name.endswith(".new"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(path_type, "rename", failing)
    with pytest.raises(PackError, match=r"was not written: .*Input/output error"):
        write(tmp_path / "pack", "other")
    monkeypatch.undo()
    assert contents(tmp_path / "pack") == before
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_build_pack(tmp_path):
    pack = build_pack(tmp_path / "pack", ["sm_87", "sm_80"], specs=[softmax_spec()])
    assert [(kernel.name, kernel.sm) for kernel in pack.kernels] == [("softmax-fp16", 80), ("softmax-fp16", 87)]
    assert pack.kernels[1] == compiled_softmax().kernel


def test_build_pack_looks_at_the_place_first(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(PackError, match="is no kernel pack"):
        build_pack(tmp_path / "out", ["sm_87"], specs=[softmax_spec(function="support.nowhere:f")])


def test_build_pack_without_targets(tmp_path):
    with pytest.raises(CompileError, match="name at least one target"):
        build_pack(tmp_path / "pack", [], specs=[softmax_spec()])
