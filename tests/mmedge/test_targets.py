"""The table of targets: consistent in itself, with the kernels' table, and with what docs/devices.md says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mmedge.engines import ENGINES
from mmedge.errors import InputError
from mmedge.targets import PRECISIONS, TARGETS, Target, target
from mmedge_kernels.aot.targets import find_target

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "devices.md"


def test_a_target_by_name() -> None:
    assert target("jetson-orin-jp6").architectures == (87,)
    assert {name: each.name for name, each in TARGETS.items()} == {name: name for name in TARGETS}


@pytest.mark.parametrize("name", ["jetson", "", "RTX"])
def test_an_unknown_target_lists_the_known_ones(name: str) -> None:
    with pytest.raises(InputError) as refused:
        target(name)
    assert all(known in str(refused.value) for known in TARGETS)


@pytest.mark.parametrize("each", TARGETS.values(), ids=TARGETS)
def test_the_entries_fit_together(each: Target) -> None:
    assert {each.engine, *each.alternatives} <= set(ENGINES)
    assert set(each.precisions) <= set(PRECISIONS)
    assert set(each.lacking) <= set(each.precisions)
    assert all(0 < len(lacking) < len(each.architectures) for lacking in each.lacking.values())
    assert each.plugins in ("quick", "pack", "none")
    assert (each.cuda is None) == (each.architectures == ())
    assert each.python[0] <= each.python[1]
    for chip in each.chips:
        assert chip.architecture in each.architectures
        assert all(each.has(precision, chip.architecture) for precision in chip.flops)
        peaks = [chip.flops[precision] for precision in ("fp32", "fp16", "int8") if precision in chip.flops]
        assert peaks == sorted(peaks), "narrower numbers are not slower on any of these chips"
        assert chip.source


@pytest.mark.parametrize("each", TARGETS.values(), ids=TARGETS)
def test_the_kernels_are_compiled_for_the_same_architectures(each: Target) -> None:
    found = [find_target(name) for name in each.kernels]
    assert {sm for kernels in found for sm in kernels.sms} == set(each.architectures)
    assert all(each.cuda is not None and kernels.cuda <= each.cuda for kernels in found), "too new for the driver"


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="TensorRT-RTX is not installed")
def test_tensorrt_rtx_builds_for_these_architectures() -> None:
    import tensorrt_rtx_bindings as trt  # type: ignore[import-untyped, import-not-found, unused-ignore]

    known = trt.ComputeCapability.__members__
    assert all(f"SM{sm}" in known for sm in TARGETS["rtx"].architectures)


def _version(version: tuple[int, int] | None) -> str:
    return "" if version is None else f"{version[0]}.{version[1]}"


def _python(each: Target) -> str:
    oldest, newest = map(_version, each.python)
    return newest if oldest == newest else f"{oldest} to {newest}"


def _precisions(each: Target) -> str:
    words = []
    for precision in each.precisions:
        lacking = ", ".join(f"sm_{sm}" for sm in each.lacking.get(precision, ()))
        words.append(f"{precision} (not {lacking})" if lacking else precision)
    return ", ".join(words)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def target_rows() -> list[str]:
    return [
        _row(
            f"`{each.name}`", each.note, ", ".join(f"sm_{sm}" for sm in each.architectures), each.runtime,
            _version(each.cuda), _python(each), str(each.opset), _precisions(each), each.plugins,
        )
        for each in TARGETS.values()
    ]  # fmt: skip


def chip_rows() -> list[str]:
    chips = {chip.name: chip for each in TARGETS.values() for chip in each.chips}
    return [
        _row(
            chip.name, f"sm_{chip.architecture}", f"{chip.memory_bytes >> 30} GiB",
            f"{chip.bandwidth_bytes_s / 1e9:g} GB/s",
            *(f"{chip.flops[p] / 1e12:g}" if p in chip.flops else "" for p in PRECISIONS), chip.source,
        )
        for chip in chips.values()
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [target_rows, chip_rows], ids=["targets", "chips"])
def test_the_document_has_the_same_rows(rows: object) -> None:
    assert callable(rows)
    written = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    for row in rows():
        assert row in written
    names = {row.split("|")[1] for row in rows()}
    assert len([line for line in written if line.split("|")[1] in names]) == len(names), "each has one row"
