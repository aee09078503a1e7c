"""Reading cubins: nothing but a CompileError comes of damaged ones."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kernel_specs import compiled_softmax

from mmedge_kernels.aot.cubin import cubin_architecture, cubin_parameters
from mmedge_kernels.errors import CompileError


@pytest.mark.parametrize("target", ["sm_75", "sm_90", "sm_120"])
def test_both_forms_of_the_header(target):
    cubin = compiled_softmax(target).cubin
    assert cubin_architecture(cubin) == int(target.removeprefix("sm_"))
    assert [p.size for p in cubin_parameters(cubin, "softmax_rows")] == [8, 4, 4, 8, 8, 8]


def test_another_function():
    with pytest.raises(CompileError, match=r"the cubin of other is damaged: it has no section \.nv\.info\.other"):
        cubin_parameters(compiled_softmax().cubin, "other")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no 64-bit ELF file"),
        (b"\x7fELF\x01" + bytes(100), "no 64-bit ELF file"),
        (b"\x7fELF\x02" + bytes(100), "for machine 0"),
    ],
)
def test_no_cubins(data, message):
    with pytest.raises(CompileError, match=message):
        cubin_architecture(data)


@given(st.data())
def test_damaged_cubins(data):
    cubin = bytearray(compiled_softmax().cubin)
    for _ in range(data.draw(st.integers(1, 4))):
        cubin[data.draw(st.integers(0, len(cubin) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(cubin[: data.draw(st.integers(0, len(cubin)))])
    with contextlib.suppress(CompileError):
        cubin_parameters(cut, "softmax_rows")
