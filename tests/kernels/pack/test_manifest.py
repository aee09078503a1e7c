"""pack.json: every value is checked, and nothing but a PackError comes of a bad one."""

from __future__ import annotations

import contextlib
import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pack_entries import kernel_entry, pack_entry

from mmedge_kernels.errors import PackError
from mmedge_kernels.pack.manifest import Manifest


def test_round_trip():
    manifest = Manifest.loads(
        json.dumps(pack_entry(kernel_entry(), kernel_entry(sm=80), kernel_entry("other", ptx=None)))
    )
    assert Manifest.loads(manifest.dumps()) == manifest
    assert manifest.dumps() == Manifest.loads(manifest.dumps()).dumps()


def test_numbers_of_a_launch():
    grid = [{"product": ["B", "cols", "block"], "divisor": 2}]
    (kernel,) = Manifest.loads(json.dumps(pack_entry(kernel_entry(grid=grid)))).kernels
    assert kernel.numbers == ("rows", "cols", "B")  # block is a constant


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operator": "a/b"}, r"pack.kernels\[0\].operator must be a string of the form"),
        ({"name": "../up"}, "name must be a string"),
        ({"name": ""}, "name must be a string"),
        ({"sm": "87"}, "sm must be a whole number from 10 to 999, got '87'"),
        ({"sm": True}, "sm must be a whole number"),
        ({"architecture": "sm_86"}, "is for sm 87 and has code for sm_86"),
        ({"architecture": "compute_87"}, "architecture must be a string"),
        ({"entry": "a b"}, "entry must be a string"),
        ({"parameters": {}}, "parameters must be a list"),
        ({"parameters": [{"name": "x", "type": "*fp16", "aligned": True}]}, r"parameters\[0\] lacks 'shape'"),
        ({"parameters": [{"name": "x", "type": "*fp7", "aligned": True, "shape": []}]}, "type must be a string"),
        ({"parameters": [{"name": "x", "type": "i32", "aligned": 1, "shape": []}]}, "aligned must be true or false"),
        ({"parameters": [{"name": "x", "type": "i32", "aligned": True, "shape": [0]}]}, r"shape\[0\] must be a whole"),
        ({"parameters": [{"name": "x", "type": "i32", "aligned": True, "shape": []}] * 2}, "different names"),
        ({"scratch": [1]}, r"scratch\[0\] must be a string"),
        ({"constants": []}, "constants must be an object"),
        ({"constants": {"a": [1]}}, "constants.a must be a number, a string or null"),
        ({"grid": []}, "1 to 3 grid axes"),
        ({"grid": [{"product": ["rows"], "divisor": 0}]}, "divisor must be a whole number from 1"),
        ({"warps": 0}, "warps must be a whole number from 1 to 32"),
        ({"warps": 33}, "warps must be a whole number from 1 to 32"),
        ({"shared_bytes": -1}, "shared_bytes must be a whole number from 0"),
        ({"registers": 256}, "registers must be"),
        ({"stack_bytes": 1.5}, "stack_bytes must be"),
        ({"spill_free": "yes"}, "spill_free must be true or false"),
        ({"ptx_version": "8"}, "ptx_version must be a string"),
        ({"toolkit": "twelve"}, "toolkit must be a string"),
        ({"cubin": None}, "cubin must be an object"),
        ({"cubin": {"file": "../x", "size": 1, "sha256": "0" * 64}}, "file must be a string of the form"),
        ({"cubin": {"file": "/etc/passwd", "size": 1, "sha256": "0" * 64}}, "file must be a string of the form"),
        ({"cubin": {"file": "..", "size": 1, "sha256": "0" * 64}}, "file must be a string of the form"),
        ({"cubin": {"file": "x\n", "size": 1, "sha256": "0" * 64}}, "file must be a string of the form"),
        ({"cubin": {"file": "x", "size": 0, "sha256": "0" * 64}}, "size must be a whole number from 1"),
        ({"cubin": {"file": "x", "size": 1 << 40, "sha256": "0" * 64}}, "size must be a whole number from 1"),
        ({"cubin": {"file": "x", "size": 1, "sha256": "0" * 63}}, "sha256 must be a string"),
        ({"ptx": 3}, "ptx must be an object"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_bad_kernels(changes, message):
    with pytest.raises(PackError, match=message):
        Manifest.loads(json.dumps(pack_entry(kernel_entry(**changes))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "pack must be an object"),
        ("{}", "pack lacks 'format'"),
        ('{"format": 2}', "has format 2, this version reads format 1"),
        ('{"format": "1"}', "format must be a whole number"),
        ('{"format": 1, "producer": [], "targets": [], "kernels": []}', "producer must be an object"),
        ('{"format": 1, "producer": {"a": "\\n"}, "targets": [], "kernels": []}', "producer.a must be a string"),
        ('{"format": 1, "producer": {}, "targets": [{}], "kernels": []}', r"targets\[0\] lacks 'name'"),
        ('{"format": 1, "producer": {}, "targets": [], "kernels": [3]}', r"kernels\[0\] must be an object"),
        ('{"format": NaN}', "NaN is no number"),
    ],
)
def test_bad_packs(text, message):
    with pytest.raises(PackError, match=message):
        Manifest.loads(text)


def test_one_kernel_twice():
    with pytest.raises(PackError, match="lists twice: softmax-fp16 for sm_87"):
        Manifest.loads(json.dumps(pack_entry(kernel_entry(), kernel_entry("other"), kernel_entry())))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_anything_in_the_place_of_a_value(data):
    value = copy.deepcopy(pack_entry(kernel_entry()))
    at = value
    while True:  # walk to a random place and put anything there
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if isinstance(at[key], (dict, list)) and data.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = data.draw(JSON)
        break
    text = json.dumps(value)
    with contextlib.suppress(PackError):
        # What is taken says the same again when it is written.
        assert Manifest.loads(Manifest.loads(text).dumps()) == Manifest.loads(text)
