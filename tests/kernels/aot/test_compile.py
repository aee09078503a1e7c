"""Compiling for GPUs that are not here: what comes out, and what is said when nothing does."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.kernel_specs import compile_spec, compiled_softmax, descriptor_spec, softmax_spec, tile_spec

from mmedge_kernels.aot.compile import SCRATCH, compile_kernels
from mmedge_kernels.aot.cubin import CubinParameter, cubin_architecture, cubin_parameters
from mmedge_kernels.aot.jobs import Job
from mmedge_kernels.aot.targets import ARCHITECTURES, Architecture
from mmedge_kernels.aot.tools import choose_assembler
from mmedge_kernels.errors import CompileError
from mmedge_kernels.pack.ptx import read_ptx


@pytest.mark.parametrize(
    ("target", "architecture", "ptx_version", "largest_toolkit"),
    [
        ("sm_75", "sm_75", "8.5", 12),
        ("jetson-orin-jp6", "sm_87", "8.5", 12),
        ("sm_90", "sm_90a", "8.5", 12),
        ("sm_120", "sm_120a", "8.7", 12),
    ],
)
def test_what_a_kernel_says_of_itself(target, architecture, ptx_version, largest_toolkit):
    compiled = compiled_softmax(target)
    kernel, spec = compiled.kernel, softmax_spec()
    assert (kernel.architecture, kernel.ptx_version) == (architecture, ptx_version)
    assert int(kernel.toolkit.split(".")[0]) <= largest_toolkit
    assert (kernel.entry, kernel.warps, kernel.scratch) == ("softmax_rows", 4, SCRATCH)
    assert (kernel.parameters, kernel.grid) == (spec.parameters, spec.grid)
    assert kernel.constants == spec.constants
    assert 8 <= kernel.registers <= 64
    assert (kernel.stack_bytes, kernel.spills) == (0, False)
    assert 0 < kernel.shared_bytes <= 1024


def test_the_code_expects_what_the_launch_passes():
    compiled = compiled_softmax()
    assert cubin_architecture(compiled.cubin) == 87
    pointer, number = (lambda at: CubinParameter(at, 8)), (lambda at: CubinParameter(at, 4))
    own = (pointer(0), number(8), number(12), pointer(16))
    assert cubin_parameters(compiled.cubin, "softmax_rows") == (*own, pointer(24), pointer(32))


def test_ptx_for_plugins_has_no_scratch_parameters():
    compiled = compiled_softmax()
    assert compiled.ptx is not None
    ptx = read_ptx(compiled.ptx.decode())
    assert [parameter.kind for parameter in ptx.parameters] == ["pointer", "i32", "i32", "pointer"]
    assert (ptx.entry, ptx.version, ptx.target) == ("softmax_rows", "8.5", "sm_87")


def test_no_ptx_where_no_plugin_wants_it():
    compiled = compile_spec(softmax_spec(plugin=False))
    assert compiled.ptx is None
    assert compiled.kernel.ptx is None


def test_nothing_of_this_machine_is_left_in_the_code():
    compiled = compiled_softmax()
    assert compiled.ptx is not None
    for place in (os.getcwd(), os.path.expanduser("~"), "/tmp", "small_kernels"):
        assert place.encode() not in compiled.cubin
        assert place.encode() not in compiled.ptx


def test_the_same_specification_gives_the_same_bytes(monkeypatch):
    first = compiled_softmax()
    for name, value in (("TRITON_INTERPRET", "1"), ("DISABLE_PTXAS_OPT", "1"), ("PTXAS_OPTIONS", "-O0")):
        monkeypatch.setenv(name, value)
    again = compile_spec(softmax_spec())
    assert (again.cubin, again.ptx, again.kernel) == (first.cubin, first.ptx, first.kernel)


def test_spills_are_seen():
    kernel = compile_spec(tile_spec("many_registers", 64, 128, warps=1)).kernel
    assert kernel.stack_bytes > 0
    assert kernel.spills
    assert not replace(kernel, spill_free=False).spills


def test_more_shared_memory_than_48_kib():
    assert compile_spec(tile_spec("transpose_tile", 128, 128)).kernel.shared_bytes > 48 << 10


def test_a_plugin_has_48_kib():
    with pytest.raises(CompileError, match=r"transpose_tile-128x128 for sm_87: .* a plugin has 49152"):
        compile_spec(tile_spec("transpose_tile", 128, 128, plugin=True))


def test_more_shared_memory_than_the_gpu_has(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, 86, Architecture((11, 1), shared=60_000))
    with pytest.raises(CompileError, match="needs 65536 bytes of shared memory, sm_86 has 60000: take smaller blocks"):
        compile_spec(tile_spec("transpose_tile", 128, 128), "sm_86")


def test_scratch_memory_is_refused():
    with pytest.raises(CompileError, match=r"with_descriptor-16x64 for sm_120: it needs global_scratch of \d+ bytes"):
        compile_spec(descriptor_spec(), "sm_120")


def test_what_the_assembler_says_comes_through():
    with pytest.raises(CompileError, match=r"(?s)no_assembly-64x64 for sm_90: .*Not a name of any known instruction"):
        compile_spec(tile_spec("no_assembly", 64, 64), "sm_90")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"function": "support.nowhere:f"}, "No module named 'support.nowhere'"),
        ({"function": "support.small_kernels:nothing"}, "has no attribute 'nothing'"),
        ({"constants": {"scale": 0.5, "bias_ptr": None}}, "takes x_ptr, bias_ptr, .* all must be there"),
        ({"constants": {**softmax_spec().constants, "more": 1}}, "and the constants .*more: all must be there"),
        (
            {"parameters": (*softmax_spec().parameters[::-1],), "plugin": False},
            "all must be there, parameters in order",
        ),
        ({"constants": {**softmax_spec().constants, "block": 100}}, "power of 2"),
    ],
    ids=["module", "function", "missing", "too-many", "order", "not-for-triton"],
)
def test_specifications_that_do_not_fit_the_function(changes, message):
    with pytest.raises(CompileError, match=f"(?s)softmax-fp16 for sm_87: .*{message}"):
        compile_spec(softmax_spec(**changes))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os\nos.abort()", "the compiler crashed with SIGABRT"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "the compiler crashed with SIGSEGV"),
        ("import os\nos._exit(7)", "the compiler failed with status 7"),
        ("raise OSError(28, 'No space left on device')", "No space left on device"),
        ("import torch\nfrom support.small_kernels import softmax_rows as f", "imports torch"),
    ],
    ids=["abort", "segfault", "exit", "raise", "torch"],
)
def test_a_process_that_fails(write_module, source, message):
    write_module(source)
    with pytest.raises(CompileError, match=f"(?s)softmax-fp16 for sm_87: .*{message}"):
        compile_spec(softmax_spec(function="broken:f"))


def test_a_process_that_never_ends(write_module):
    write_module("import subprocess\nsubprocess.run(['sleep', '600'])")
    with pytest.raises(CompileError, match="not done after 1 s, given up"):
        compile_kernels([Job(softmax_spec(function="broken:f"), 87, (12, 6))], timeout_s=1)


def test_an_interruption_ends_everything(write_module, tmp_path):
    note = f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
    write_module(f"import os, pathlib, subprocess\n{note}\nsubprocess.run(['sleep', '600'])")

    def interrupt(compiled):
        while not (tmp_path / "pid").exists():  # until the other process has begun
            time.sleep(0.01)
        raise KeyboardInterrupt

    jobs = [Job(softmax_spec(name="slow", function="broken:f"), 87, (12, 6)), Job(softmax_spec(), 87, (12, 6))]
    with pytest.raises(KeyboardInterrupt):
        compile_kernels(jobs, at_once=2, done=interrupt)
    stat = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    while stat.exists() and ") Z " not in stat.read_text():  # it ends soon, or this test does not
        time.sleep(0.01)


def test_every_failure_is_named(write_module):
    write_module("raise ValueError('broken')")
    good, bad = softmax_spec(), [softmax_spec(name=f"bad-{i}", function="broken:f") for i in range(2)]
    jobs = [Job(spec, 87, (12, 6)) for spec in (bad[0], good, bad[1])]
    with pytest.raises(CompileError, match=r"(?s)2 of 3 kernels cannot be compiled:\nbad-.*bad-.*ValueError: broken"):
        compile_kernels(jobs, at_once=2)


def test_results_keep_the_order_of_the_jobs():
    specs = [softmax_spec(name=name) for name in ("c", "a", "b")]
    seen = []
    compiled = compile_kernels([Job(spec, 87, (12, 6)) for spec in specs], at_once=2, done=seen.append)
    assert [each.kernel.name for each in compiled] == ["c", "a", "b"]
    assert sorted(each.kernel.name for each in seen) == ["a", "b", "c"]


def test_alignment_is_compiled_in():
    """Four floats are loaded at once only where the compiler may rely on the address."""
    spec = tile_spec("transpose_tile", 16, 128)
    loose = replace(spec, parameters=tuple(replace(p, aligned=False) for p in spec.parameters))
    texts = [compile_spec(replace(s, plugin=True)).ptx or b"" for s in (spec, loose)]
    assert [b"ld.global.v4.b32" in text for text in texts] == [True, False]


def test_the_assembler_fits_the_driver():
    assert choose_assembler(90, (12, 6)).cuda[0] == 12
    assert choose_assembler(87, (13, 0)).cuda >= choose_assembler(87, (12, 6)).cuda
    with pytest.raises(CompileError, match=r"sm_110 under drivers of CUDA 12.9 needs a ptxas of CUDA 13.0 to 12.x"):
        choose_assembler(110, (12, 9))
