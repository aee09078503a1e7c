"""Reading PTX, and taking parameters out of it that nothing uses."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kernel_specs import compiled_softmax

from mmedge_kernels.aot.tools import choose_assembler
from mmedge_kernels.errors import PackError
from mmedge_kernels.pack.ptx import PtxParameter, read_ptx, without_trailing_parameters

TEXT = """
.version 8.5
.target sm_87
.address_size 64
.extern .shared .align 16 .b8 global_smem[];
.visible .entry f(
    .param .u64 .ptr .global .align 16 f_param_0,
    .param .u32 f_param_1,
    .param .u64 .ptr .global .align 1 f_param_2,
    .param .b64 f_param_10
)
.reqntid 128
{
    .reg .b64 %rd<3>;
    ld.param.b64 %rd1, [f_param_0];
    st.global.b32 [%rd1], 1;
    ret;
}
"""


def test_read():
    kernel = read_ptx(TEXT)
    assert (kernel.entry, kernel.version, kernel.target) == ("f", "8.5", "sm_87")
    assert kernel.parameters[1] == PtxParameter("f_param_1", "u32")
    assert [parameter.kind for parameter in kernel.parameters] == ["pointer", "i32", "pointer", "pointer"]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_remove(count):
    shorter = without_trailing_parameters(TEXT, count)
    assert read_ptx(shorter).parameters == read_ptx(TEXT).parameters[: 4 - count]
    assert shorter.partition(")")[2].split() == TEXT.partition(")")[2].split()


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [
        (TEXT, 4, "cannot remove 4 of the 4 parameters of f"),
        (TEXT, -1, "cannot remove -1"),
        (TEXT.replace("[f_param_0]", "[f_param_10]"), 1, "f uses its parameter f_param_10: it cannot be removed"),
        (TEXT.replace("[f_param_0]", "[f_param_2]"), 2, "f uses its parameter f_param_2"),
        (TEXT.replace(".version 8.5", ""), 1, "must have one version, it has 0"),
        (TEXT + TEXT, 1, "must have one version, it has 2"),
        (TEXT.replace(".visible .entry", ".func"), 1, "must have one kernel, it has 0"),
        (TEXT.replace(".b64 f_param_10", ".align 64 .b8 f_param_10[128]"), 1, "is neither a pointer nor a number"),
        ("", 0, "must have one version, it has 0"),
    ],
)
def test_what_cannot_be_removed(text, count, message):
    with pytest.raises(PackError, match=re.escape(message)):
        without_trailing_parameters(text, count)


def test_a_name_inside_another_is_not_that_name():
    """f_param_1 is used, f_param_10 is not."""
    used = TEXT.replace("[f_param_0]", "[f_param_1]")
    assert len(read_ptx(without_trailing_parameters(used, 1)).parameters) == 3


@pytest.mark.parametrize("target", ["sm_75", "sm_87", "sm_90", "sm_120"])
def test_what_triton_writes_assembles_without_its_scratch_parameters(target, tmp_path):
    compiled = compiled_softmax(target)
    assert compiled.ptx is not None
    kernel = read_ptx(compiled.ptx.decode())
    assert len(kernel.parameters) == 4
    (tmp_path / "kernel.ptx").write_bytes(compiled.ptx)
    assembler = choose_assembler(compiled.kernel.sm, (12, 8))
    command = [assembler.path, f"--gpu-name={kernel.target}", tmp_path / "kernel.ptx", "-o", tmp_path / "kernel.cubin"]
    subprocess.run(command, check=True)


@given(st.text(max_size=200) | st.integers(0, len(TEXT)).map(lambda cut: TEXT[:cut]))
def test_any_text(text):
    try:
        kernel = read_ptx(text)
    except PackError:
        return
    assert kernel.entry
