"""Specifications: rules, JSON, and which are compiled for which architecture."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kernel_specs import softmax_spec, weighted_sum_spec

from mmedge_kernels.aot.jobs import check_spec, make_jobs, specs_from_json, specs_to_json
from mmedge_kernels.aot.targets import find_target
from mmedge_kernels.errors import CompileError
from mmedge_kernels.specification import GridAxis, KernelSpec, Parameter

NAMES = st.sampled_from(["x_ptr", "n", "M", "block", "norm_eps", "_", "A9"])
CONSTANTS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
SHAPES = st.lists(st.integers(1, 2**31 - 1) | NAMES, max_size=3).map(tuple)
GRID_AXES = st.builds(GridAxis, st.lists(NAMES, max_size=2).map(tuple), st.integers(1, 128))
TYPES = st.sampled_from(["*fp16", "*bf16", "*u8", "i32"])


@st.composite
def specs(draw: st.DrawFn) -> KernelSpec:
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    split = draw(st.integers(0, len(names)))
    return KernelSpec(
        name=draw(st.sampled_from(["a", "softmax-fp16.l8", "9_"])),
        operator=draw(NAMES),
        function="some.module:name",
        parameters=tuple(Parameter(n, draw(TYPES), draw(st.booleans()), draw(SHAPES)) for n in names[:split]),
        constants={n: draw(CONSTANTS | st.text(max_size=4)) for n in names[split:]},
        grid=draw(st.lists(GRID_AXES, min_size=1, max_size=3).map(tuple)),
        warps=draw(st.sampled_from([1, 4, 32])),
        stages=draw(st.integers(1, 5)),
        spill_free=draw(st.booleans()),
        sms=draw(st.lists(st.integers(75, 121), max_size=2).map(tuple)),
    )


@given(st.lists(specs(), max_size=2))
def test_json_round_trip(written):
    assert specs_from_json(specs_to_json(written)) == tuple(written)


POINTER, NUMBER = Parameter("x_ptr", "*fp16"), Parameter("n", "i32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "needs a name of letters"),
        ({"name": ""}, "needs a name of letters"),
        ({"name": ".hidden"}, "needs a name of letters"),
        ({"function": "module.name"}, "form module:name, got 'module.name'"),
        ({"function": "os;rm:x"}, "form module:name"),
        ({"parameters": (Parameter("x", "*fp8"),)}, r"type \*fp8; known are \*bf16"),
        ({"parameters": (Parameter("x", "fp32"),)}, "type fp32; known are"),
        ({"parameters": (POINTER, POINTER)}, "names a parameter twice"),
        ({"parameters": (Parameter("block", "i32"),)}, "or as a constant too"),
        ({"constants": {"block": (1, 2)}}, "no finite number, string or None: block"),
        ({"constants": {"block": float("inf")}}, "no finite number, string or None: block"),
        ({"grid": ()}, "1 to 3 grid axes, got 0"),
        ({"grid": (GridAxis(),) * 4}, "1 to 3 grid axes, got 4"),
        ({"warps": 3}, "a power of two up to 32 and stages from 1, got 3"),
        ({"warps": 64}, "got 64"),
        ({"stages": 0}, "got 4 and 0"),
        ({"parameters": (POINTER, NUMBER)}, "inputs, then numbers, then outputs"),
        ({"parameters": (NUMBER, POINTER)}, "inputs, then numbers, then outputs"),
        ({"parameters": (POINTER, NUMBER, Parameter("o", "*fp16"))}, "must give the shapes of x_ptr, o"),
        ({"grid": (GridAxis(("rows", "B")),)}, "B must appear in the shape of an input"),
    ],
    ids=str,
)
def test_rules_of_specifications(changes, message):
    with pytest.raises(CompileError, match=message):
        check_spec(softmax_spec(**changes))


def test_a_constant_may_stand_in_the_grid_of_a_plugin():
    check_spec(softmax_spec(grid=(GridAxis(("rows", "block"), 4),)))


def test_bfloat16_needs_sm_80():
    jobs = make_jobs([softmax_spec("bf16"), softmax_spec("fp16")], [find_target("rtx")])
    assert [(job.spec.name, job.sm) for job in jobs if job.sm == 75] == [("softmax-fp16", 75)]
    assert {job.sm for job in jobs if job.spec.name == "softmax-bf16"} == {86, 89, 120}


def test_specifications_for_some_architectures():
    here, there = softmax_spec(sms=(86, 89), warps=2), softmax_spec(sms=(75,), warps=8)
    jobs = make_jobs([here, there], [find_target("rtx")])
    assert {job.sm: job.spec.warps for job in jobs} == {75: 8, 86: 2, 89: 2}


def test_the_same_twice_is_compiled_once():
    targets = [find_target("sm_87"), find_target("jetson-orin-jp7")]
    jobs = make_jobs([softmax_spec(), softmax_spec(sms=(87,))], targets)
    assert [(job.sm, job.cuda) for job in jobs] == [(87, (12, 6))]


def test_one_name_for_two_kernels():
    other = replace(weighted_sum_spec(), name="softmax-fp16")
    with pytest.raises(CompileError, match="two specifications that differ are called softmax-fp16 for sm_87"):
        make_jobs([softmax_spec(), other], [find_target("sm_87")])


@pytest.mark.parametrize("specs", [[], [softmax_spec("bf16")], [softmax_spec(sms=(90,))]], ids=["none", "bf16", "sm"])
def test_nothing_to_compile(specs):
    with pytest.raises(CompileError, match="nothing to compile"):
        make_jobs(specs, [find_target("sm_75")])
