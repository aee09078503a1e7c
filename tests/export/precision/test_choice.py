"""Which variants are worth their bytes."""

from __future__ import annotations

from mmedge_export.precision.choice import Row, verdicts
from mmedge_export.precision.variants import VARIANTS


def row(variant: str, ms: float, deviation: float = 0.01, size: int = 10, engine: str = "onnxruntime") -> Row:
    exact = variant == "fp32"
    return Row(VARIANTS[variant], engine, ms, 0.0 if exact else deviation, 0 if exact else size)


def kept(*rows: Row) -> list[str]:
    return [r.variant.name for r, (keep, _) in zip(rows, verdicts(rows), strict=True) if keep]


def test_what_is_slower_than_what_it_replaces_is_dropped_and_said() -> None:
    rows = [row("fp32", 10), row("int8", 12)]
    assert kept(*rows) == ["fp32"]
    assert verdicts(rows)[1][1] == "not faster than fp32, which takes 10 ms on onnxruntime"


def test_a_gain_within_the_noise_is_none() -> None:
    assert kept(row("fp32", 10), row("int8", 9.8)) == ["fp32"]
    assert kept(row("fp32", 10), row("int8", 9.0)) == ["fp32", "int8"]


def test_int8_must_beat_bf16_where_there_is_bf16() -> None:
    rows = [row("fp32", 10), row("bf16", 5, 0.001, 0), row("int8", 6)]
    assert kept(*rows) == ["fp32", "bf16"]
    assert "bf16" in verdicts(rows)[2][1]


def test_engines_are_looked_at_one_by_one() -> None:
    """A device may have ONNX Runtime alone."""
    rows = [row("fp32", 10), row("int8", 6), row("fp32", 8, engine="openvino"), row("bf16", 4, engine="openvino")]
    assert kept(*rows) == ["fp32", "int8", "fp32", "bf16"]


def test_of_two_that_are_as_fast_the_more_exact_and_smaller_stays() -> None:
    rows = [row("fp32", 10), row("int8", 5, 0.02, 10), row("int8-dynamic", 5.05, 0.01, 10)]
    assert kept(*rows) == ["fp32", "int8-dynamic"]


def test_a_trade_keeps_both() -> None:
    assert kept(row("fp32", 10), row("int8", 4, 0.02), row("int8-dynamic", 6, 0.01)) == ["fp32", "int8", "int8-dynamic"]
