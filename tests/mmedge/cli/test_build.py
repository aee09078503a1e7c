"""``mmedge build``: a table or JSON on standard output, exit codes as of every other verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.bundles import COLOR_STAGES, write_bundle
from support.command import Mmedge

from mmedge.bundle import open_bundle

pytest.importorskip("tensorrt_rtx_bindings", reason="pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs")

REFUSED = """
image (float[1, 3, 8, 8] pixels) => (float[1, 3] image_vec) {
  pooled = GlobalAveragePool(pixels)
  q, s, z = DynamicQuantizeLinear(pooled)
  back = DequantizeLinear(q, s, z)
  image_vec = Flatten(back)
}
"""


def test_a_table_of_what_was_built(mmedge: Mmedge, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "engines.mmedge"
    before = bundle.read_bytes()
    done = mmedge("build", bundle, "--target", "rtx", "--out", out)
    assert done.code == 0, done.err
    for stage in COLOR_STAGES:
        assert stage in done.out
    assert "not for sm_75: image+text fp32: " in done.out
    assert bundle.read_bytes() == before
    with open_bundle(out) as opened:
        assert {plan.architecture for plan in opened.manifest.plans if plan.stage == "image+text"} == {
            "sm_80", "sm_86", "sm_89", "sm_120"
        }  # fmt: skip


def test_json_and_one_architecture(mmedge: Mmedge, bundle: Path) -> None:
    done = mmedge("build", bundle, "--arch", "sm_86", "--precision", "fp32", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert made["path"] == str(bundle)
    assert made["engine"] == "tensorrt_rtx"
    assert [(row["stage"], row["architectures"]) for row in made["rows"]] == [
        (name, ["sm_86"]) for name in COLOR_STAGES
    ]
    assert mmedge("verify", bundle, "--engine", "onnxruntime:cpu").code == 0
    assert len(json.loads(mmedge("info", bundle, "--json").out)["plans"]) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{bundle}", "--target", "toaster"], 4, "toaster"),
        (["{bundle}", "--target", "jetson-orin-jp6"], 4, "prepares stages on the device"),
        (["{bundle}", "--arch", "sm_87"], 6, "does not build for sm_87; it builds for sm_75"),
        (["{bundle}", "--precision", "fp8"], 3, "no variant 'fp8'"),
        (["nowhere.mmedge"], 3, "no bundle at nowhere.mmedge"),
        (["{refused}"], 6, "image.onnx: q (DynamicQuantizeLinear): the parser has no such operator"),
    ],
    ids=["target", "on-the-device", "architecture", "variant", "bundle", "node"],
)
def test_failures(arguments: list[str], code: int, message: str, mmedge: Mmedge, bundle: Path, tmp_path: Path) -> None:
    refused = write_bundle(tmp_path / "refused.mmedge", {**COLOR_STAGES, "image": REFUSED})
    before = bundle.read_bytes()
    done = mmedge("build", *(argument.format(bundle=bundle, refused=refused) for argument in arguments))
    assert done.code == code
    assert message in done.err
    assert done.out == ""
    assert bundle.read_bytes() == before
