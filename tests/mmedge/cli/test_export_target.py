"""``mmedge export --target``: findings, estimate and kernel pack, and a bundle only where it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.command import Mmedge

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import onnx
from support.target_bundles import parse_graph, write_variants

from mmedge.bundle import Site, open_bundle
from mmedge.errors import ParityError
from mmedge.targets import TARGETS
from mmedge_export import Report, command
from mmedge_export.for_target import _kernel_pack

PLAIN = "graph (float[2, 3] x) => (float[2, 3] y) { z = Exp(x) y = Add(z, x) }"
REFUSED = "graph (float[3, 3] x) => (float y) { z = Exp(x) y = Det(z) }"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path, PLAIN)


def save(folder: Path, text: str) -> Path:
    onnx.save(parse_graph(text), folder / "model.onnx")
    return folder / "model.onnx"


def test_a_bundle_that_runs_there_is_written(mmedge: Mmedge, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "door.mmedge"
    done = mmedge("export", model, "--out", out, "--target", "jetson-orin-jp6", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["target"], report["written"], report["path"]) == ("jetson-orin-jp6", True, str(out))
    assert "fp32" in report["usable"]
    assert {estimate["chip"] for estimate in report["estimates"]} == {"Jetson AGX Orin 64GB", "Jetson Orin Nano 8GB"}
    assert {estimate["kind"] for estimate in report["estimates"]} == {"estimate, not measured"}
    assert report["kernels"] is None, "there is no prompt attention in it"
    with open_bundle(out) as bundle:
        assert bundle.manifest.name == "door"
        assert "estimate" not in bundle.manifest.dumps(), "an estimate is never stored"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["door.mmedge", "model.onnx"]


def test_for_people(mmedge: Mmedge, model: Path, tmp_path: Path) -> None:
    options = ("--target", "jetson-orin-jp6", "--precision", "fp32", "--form", "folder")
    done = mmedge("export", model, "--out", tmp_path / "a.mmedge", *options)
    assert done.code == 0, done.err
    assert (tmp_path / "a.mmedge" / "manifest.json").is_file()
    for words in ("an estimate, not measured", "40%", "tensorrt 10.3", "note: Python there is 3.10", "was not asked"):
        assert words in done.out


def test_a_bundle_that_does_not_run_there_is_not_written(mmedge: Mmedge, tmp_path: Path) -> None:
    model, out = save(tmp_path, REFUSED), tmp_path / "det.mmedge"
    common = ("export", model, "--out", out, "--precision", "fp32")
    done = mmedge(*common, "--target", "rtx", "--json")
    assert done.code == 7
    report = json.loads(done.out)
    assert (report["written"], report["usable"], report["estimates"]) == (False, [], [])
    assert [f["op_type"] for f in report["findings"] if f["severity"] == "error"] == ["Det"]
    assert "--force" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]

    forced = mmedge(*common, "--target", "rtx", "--force")
    assert forced.code == 0, forced.err
    assert "Det" in forced.out
    assert out.is_file()
    assert mmedge(*common, "--target", "cpu").code == 0


def test_auto_leaves_out_a_variant_that_cannot_be_made_exact(
    mmedge: Mmedge, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def export_model(*arguments: Any, precision: str, **options: Any) -> Report:
        asked.append(precision)
        if precision != "fp32":
            raise ParityError("variant fp16 is outside its limits")
        return command.export_model(*arguments, precision=precision, **options)

    monkeypatch.setattr("mmedge_export.for_target.export_model", export_model)
    done = mmedge("export", model, "--out", tmp_path / "a.mmedge", "--target", "jetson-thor", "--json")
    assert done.code == 0, done.err
    assert asked == ["fp16", "fp32"]
    assert [f["why"] for f in json.loads(done.out)["findings"] if f["severity"] == "warning"] == [
        "fp16 was left out: variant fp16 is outside its limits"
    ]
    by_name = mmedge("export", model, "--out", tmp_path / "b.mmedge", "--target", "jetson-thor", "--precision", "fp16")
    assert by_name.code == 7, "what is asked for by name is never left out silently"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "jetson"), tuple(TARGETS)),
        (("--kernel-pack",), ("--target",)),
    ],
    ids=["unknown target", "kernel pack without a target"],
)
def test_wrong_usage(
    options: tuple[str, ...], words: tuple[str, ...], mmedge: Mmedge, model: Path, tmp_path: Path
) -> None:
    done = mmedge("export", model, "--out", tmp_path / "a.mmedge", *options)
    assert done.code == 2
    assert all(word in done.err for word in words)


def test_a_pack_for_a_target_without_kernels(mmedge: Mmedge, model: Path, tmp_path: Path) -> None:
    done = mmedge("export", model, "--out", tmp_path / "a.mmedge", "--target", "cpu", "--kernel-pack")
    assert done.code == 7
    assert "no GPU kernels" in done.err


def test_the_kernels_of_compiled_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed to the compiler; that these specifications compile is tested with the kernels."""
    asked: dict[str, list[str]] = {}

    def build_pack(place: Path, targets: tuple[str, ...], *, specs: list[object]) -> None:
        asked["specs"] = [f"{spec.name} {spec.sms}" for spec in specs]  # type: ignore[attr-defined]
        asked["place"] = [place.name, *targets]

    pytest.importorskip("triton")
    monkeypatch.setattr("mmedge_kernels.aot.build_pack", build_pack)
    sites = tuple(
        Site(name, ("scan",), ("scan",), heads, width, form, "")
        for name, heads, width, form in (
            ("a", 4, 64, "compiled"), ("b", 4, 64, "compiled"), ("c", 8, 512, "compiled"), ("d", 2, 32, "cached")
        )
    )  # fmt: skip
    half = parse_graph("scan (float16[2, 3] x) => (float16[2, 3] y) { y = Add(x, x) }")
    path = write_variants(tmp_path / "a.mmedge", {"fp16": half}, sites=sites)
    with open_bundle(path) as bundle:
        place = _kernel_pack(bundle, ("fp16",), TARGETS["jetson-orin-jp6"], tmp_path / "door.mmedge")
    assert place == tmp_path / "door.kernels"
    assert asked["place"] == ["door.kernels", "jetson-orin-jp6"]
    assert asked["specs"] == [
        f"prompt_attention-fp16-d{width}-h{heads}-l{keys} (87,)"
        for width, heads in ((64, 4), (512, 8))
        for keys in (8, 16, 32)
    ]
