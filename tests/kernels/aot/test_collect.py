"""What there is to compile: standard kernels, and what the image input of a bundle needs."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

import mmedge
from mmedge_kernels.aot.collect import OPERATORS, collect_specs, image_contracts
from mmedge_kernels.aot.tools import tools_folder
from mmedge_kernels.errors import CompileError

BUILT_IN = Path(mmedge.__file__).parent / "data" / "tabletop.mmedge"


def test_the_image_input_of_a_bundle():
    (contract,) = image_contracts(BUILT_IN)
    assert (contract["kind"], contract["size"], contract["layout"]) == ("image", [144, 192], "nchw")
    names = [spec.name for spec in collect_specs([87], ["frame"], [contract])]
    assert set(names) > {spec.name for spec in collect_specs([87], ["frame"])}


def test_a_bundle_that_is_a_folder(tmp_path):
    with zipfile.ZipFile(BUILT_IN) as archive:
        archive.extract("manifest.json", tmp_path)
    assert image_contracts(tmp_path) == image_contracts(BUILT_IN)


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_json", ".json"), data)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no bundle at"),
        (lambda path: path.mkdir(), "no bundle at"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut off"), "cannot be read: File is not a zip file"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: zipped(path, other="x"), "does not describe inputs .KeyError"),
        (lambda path: zipped(path, manifest_json="{"), "does not describe inputs .JSONDecodeError"),
        (lambda path: zipped(path, manifest_json="[]"), "does not describe inputs"),
        (lambda path: zipped(path, manifest_json='{"inputs": []}'), "does not describe inputs"),
        (lambda path: zipped(path, manifest_json='{"inputs": {"image": 3}}'), "does not describe inputs"),
        (lambda path: zipped(path, manifest_json=b"\xff\xfe\xff"), "does not describe inputs"),
        (lambda path: zipped(path, manifest_json=" " * (9 << 20)), "more than 8388608 bytes"),
        (lambda path: zipped(path, manifest_json="[" * 100_000), "does not describe inputs"),
    ],
    ids=["nothing", "empty-folder", "cut", "empty", "no-manifest", "no-json", "list", "no-map", "number", "no-text",
         "large", "deep"],
)  # fmt: skip
def test_bundles_that_cannot_be_read(tmp_path, write, message):
    write(tmp_path / "x.mmedge")
    with pytest.raises(CompileError, match=message):
        image_contracts(tmp_path / "x.mmedge")


def test_a_contract_that_the_frame_path_does_not_take():
    with pytest.raises(CompileError, match=r"the kernels of frame cannot be listed: .*layout 'chw'"):
        collect_specs([87], ["frame"], [{"kind": "image", "layout": "chw", "tensor": {"dtype": "float32"}}])


def test_an_unknown_operator():
    with pytest.raises(CompileError, match=f"unknown operator conv, gemm; take one of: {', '.join(OPERATORS)}"):
        collect_specs([87], ["frame", "conv", "gemm"])


@pytest.mark.parametrize("operator", OPERATORS)
def test_standard_kernels_are_for_the_architecture_they_were_asked_for(operator):
    specs = collect_specs([75, 87], [operator])
    assert specs
    assert {spec.sms for spec in specs} == {(75,), (87,)}
    names = [spec.name for spec in specs if spec.sms == (87,)]
    assert len(set(names)) == len(names)


def test_without_triton(monkeypatch):
    tools_folder.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CompileError, match="compiling kernels needs Triton: install it with: pip"):
        collect_specs([87], ["frame"])
    tools_folder.cache_clear()


def test_a_contract_travels_as_json():
    (contract,) = image_contracts(BUILT_IN)
    assert json.loads(json.dumps(contract)) == contract
