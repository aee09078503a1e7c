"""The kernels that are compiled ahead of time, run in the interpreter as specified; and that all kernels compile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.interpreter import launch_specification

from mmedge_kernels.cross_attention.kernels import PROMPT_LENGTHS, kernel_spec, standard_specs

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SMS = (75, 80, 86, 87, 89, 90, 110, 120)
SHARED = {75: 64, 80: 163, 86: 99, 87: 163, 90: 227, 100: 227, 120: 99}  # KiB a block


def run_dense(spec, made, kv):
    arguments = made.arguments
    (b, h, m, _), length = arguments["q"].shape, arguments["k"].shape[2]
    out = torch.empty_like(arguments["q"])
    tensors = {f"{name}_ptr": arguments[name] for name in "qkv"} | {"out_ptr": out}
    tensors["mask_ptr"] = arguments.get("key_mask")
    launch_specification(spec, tensors | {"B": b, "H": h, "M": m, "L": length, "KB": kv})
    return out


@pytest.fixture
def check_dense(problem, check):
    def compare(spec, keys, kv):
        dtype = DTYPES[spec.parameters[0].type.removeprefix("*")]
        masked = any(parameter.name == "mask_ptr" for parameter in spec.parameters)
        rows = spec.constants["BLOCK_M"] + 1
        made = problem(2, 2, rows, keys, spec.constants["HEAD_DIM"], kv=kv, mask=kv if masked else None, dtype=dtype)
        made.arguments["scale"] = spec.constants["scale"]
        expected = check(made, "reference")
        found = run_dense(spec, made, kv).float()
        assert (found - expected.float()).norm() <= {"fp16": 1e-3, "bf16": 1e-2, "fp32": 1e-5}[
            spec.parameters[0].type.removeprefix("*")
        ] * expected.float().norm()

    return compare


@pytest.mark.parametrize(("sm", "kv"), [(75, 1), (87, 1), (87, 2)])
def test_standard_kernels_give_the_reference(check_dense, sm, kv):
    for spec in standard_specs(sm):
        length = spec.parameters[1].shape[2]
        check_dense(spec, 19 if length == "L" else length, kv)


@pytest.mark.parametrize("keys", [130, 129, 1])
def test_any_length(check_dense, keys):
    check_dense(kernel_spec(sm=87, dtype="fp16", head_dim=40, keys=None, masked=True), keys, 2)


def test_other_scale_and_few_queries(check_dense):
    spec = kernel_spec(sm=87, dtype="fp32", head_dim=24, keys=5, queries=9, scale=0.75)
    assert spec.name == "cross_attention-fp32-d24-l5-m9-scale0.75"
    check_dense(spec, 5, 1)


@pytest.mark.parametrize("sm", SMS)
def test_specifications_are_what_a_plugin_takes(sm):
    specs = standard_specs(sm)
    assert len({spec.name for spec in specs}) == len(specs)
    for spec in specs:
        pointers = [parameter.is_pointer for parameter in spec.parameters]
        numbers = pointers.index(False)
        assert all(pointers[:numbers])
        assert pointers[-1]
        assert not any(pointers[numbers:-1])
        known = {size for parameter in spec.parameters[:numbers] for size in parameter.shape}
        assert {parameter.name for parameter in spec.parameters if not parameter.is_pointer} <= known
        assert spec.spill_free


@pytest.mark.parametrize("masked", [False, True])
def test_a_plugin_finds_one_kernel_for_a_length(masked):
    specs = [spec for spec in standard_specs(87) if spec.plugin and spec.constants["HEAD_DIM"] == 64]
    for length in PROMPT_LENGTHS:
        fitting = [
            spec for spec in specs
            if spec.parameters[1].shape[2] == length and spec.parameters[0].type == "*fp16"
            and ("mask_ptr" not in spec.constants) == masked
        ]  # fmt: skip
        assert len(fitting) == 1


def test_kernels_are_described_without_triton_and_torch():
    code = (
        "import sys, types, mmedge_kernels\n"
        "package = types.ModuleType('mmedge_kernels.cross_attention')\n"
        "package.__path__ = [mmedge_kernels.__path__[0] + '/cross_attention']\n"
        "sys.modules[package.__name__] = package\n"
        "from mmedge_kernels.cross_attention.kernels import standard_specs\n"
        "standard_specs(87)\n"
        "assert not {'torch', 'triton'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("sm", "dtype", "head_dim", "keys"),
    [
        (75, "fp16", 64, 16),
        (80, "fp32", 16, 1),
        (87, "fp16", 64, 77),
        (90, "bf16", 80, 129),
        (100, "fp16", 64, 16),
        (120, "fp32", 60, 77),
    ],
)
def test_strided_kernels_compile(tmp_path, sm, dtype, head_dim, keys):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    script = Path(__file__).with_name("compile_kernels.py")
    command = [sys.executable, str(script), str(sm), dtype, str(head_dim), str(keys)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kernels = json.loads(done.stdout)
    assert len(kernels) == 3
    for needs in kernels.values():
        assert needs["shared"] <= SHARED[sm] * 1024
        assert needs["matrix_units"] == (sm >= 80 and dtype != "fp32")
