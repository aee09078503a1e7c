"""The command line: ``python -m mmedge_kernels.aot``."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest
from support.kernel_specs import softmax_spec, tile_spec

from mmedge_kernels.aot import command
from mmedge_kernels.pack import open_pack


@pytest.fixture
def standard(monkeypatch):
    """Sets what the standard kernels are."""

    def use(*specs):
        monkeypatch.setattr(command, "gather_specs", lambda targets, operators, bundles: specs)

    use(softmax_spec())
    return use


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = command.main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def test_a_pack(standard, run, tmp_path):
    code, out, err = run("--target", "jetson-orin-jp6", "--target", "sm_80", "--out", tmp_path / "pack", "--jobs", 1)
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        "1/2 softmax-fp16 sm_80",
        "2/2 softmax-fp16 sm_87",
        f"2 kernels in {tmp_path / 'pack'}",
    ]
    assert [kernel.sm for kernel in open_pack(tmp_path / "pack").kernels] == [80, 87]


def test_without_out_there_is_the_report(standard, run):
    code, out, _ = run("--target", "sm_87")
    head, row = [line.split() for line in out.splitlines()]
    assert code == 0
    assert head == ["kernel", "sm", "registers", "spilled", "shared", "warps", "ptx", "cuda", "code"]
    assert row[:2] == ["softmax-fp16", "87"]
    assert row[3:7] == ["0", "16", "4", "8.5"]


def test_report_and_pack(standard, run, tmp_path):
    code, out, _ = run("--target", "sm_87", "--out", tmp_path / "pack", "--report")
    assert code == 0
    assert "softmax-fp16" in out
    open_pack(tmp_path / "pack")


def test_json(standard, run):
    code, out, _ = run("--target", "sm_87", "--json")
    (kernel,) = json.loads(out)
    assert code == 0
    assert (kernel["name"], kernel["sm"], kernel["spills"], kernel["stack_bytes"]) == ("softmax-fp16", 87, False, 0)


def test_a_spill_fails_and_writes_nothing(standard, run, tmp_path):
    spilling = tile_spec("many_registers", 64, 128, warps=1)
    standard(softmax_spec(), spilling)
    code, out, err = run("--target", "sm_87", "--out", tmp_path / "pack", "--report")
    assert code == 1
    assert "many_registers-64x128" in out
    assert "error: registers are spilled to memory:\nmany_registers-64x128 for sm_87 spills" in err
    assert not (tmp_path / "pack").exists()


def test_a_spill_that_is_allowed(standard, run):
    standard(tile_spec("many_registers", 64, 128, warps=1, spill_free=False))
    assert run("--target", "sm_87")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "orin"], "error: unknown target 'orin'; take one of: jetson-orin-jp6"),
        (["--target", "sm_87", "--out", "."], "error: '.' is no name"),
        (["--target", "sm_87", "--out", "/"], "error: '/' is no name"),
        (["--target", "sm_87", "--out", "folder"], "error: folder is there and is no kernel pack"),
    ],
)
def test_errors(standard, run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert message in err


def test_a_full_disk(standard, run, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run("--target", "sm_87", "--out", tmp_path / "pack")
    assert code == 1
    assert "pack was not written: [Errno 28] No space left on device; what was there is unchanged" in err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_for_temporary_files(standard, run, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    code, _, err = run("--target", "sm_87")
    assert code == 1
    assert "softmax-fp16 for sm_87: [Errno 28] No space left on device" in err


@pytest.mark.parametrize("arguments", [[], ["--target"], ["--target", "sm_87", "--jobs", "0"], ["--jobs", "two"]])
def test_arguments_that_do_not_parse(run, arguments):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


def test_as_a_process(tmp_path):
    arguments = ["--target", "sm_87", "--operator", "frame", "--bundle", str(tmp_path / "none.mmedge")]
    done = subprocess.run(
        [sys.executable, "-m", "mmedge_kernels.aot", *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: no bundle at {tmp_path / 'none.mmedge'}: expected a .mmedge file or folder\n"


def test_help_names_the_targets(run, capsys):
    with pytest.raises(SystemExit) as caught:
        run("--help")
    assert caught.value.code == 0
    assert "jetson-orin-jp6  Jetson Orin, JetPack 6" in capsys.readouterr().out


def test_the_command_imports_neither_triton_nor_torch():
    code = (
        "import sys\n"
        "from mmedge_kernels.aot.command import main\n"
        "main(['--target', 'nowhere'])\n"
        "bad = {'torch', 'triton', 'pycuda', 'tensorrt', 'mmedge'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
