"""What can be asked for, and what variants may lose."""

from __future__ import annotations

import pytest

from mmedge.bundle import Classify, Embed, Ground, Raw, TensorSpec
from mmedge.errors import ExportError
from mmedge_export.precision import VARIANTS, parse_precision
from mmedge_export.precision.variants import default_limits

FLOATS = (TensorSpec("v", "float32", ("n", 4)),)
INTEGERS = (TensorSpec("ids", "int64", ("n",)),)


@pytest.mark.parametrize(
    ("precision", "auto", "forced"),
    [
        ("auto", True, []),
        ("fp32", False, []),
        ("int8", False, ["int8"]),
        ("int8-symmetric, auto,fp16", True, ["fp16", "int8-symmetric"]),
        ("fp32,bf16", False, ["bf16"]),
    ],
)
def test_names_with_commas(precision: str, auto: bool, forced: list[str]) -> None:
    wanted = parse_precision(precision)
    assert (wanted.auto, [variant.name for variant in wanted.forced]) == (auto, forced)


@pytest.mark.parametrize("precision", ["", "int3", "auto,", "INT8", "fp8"])
def test_unknown_names_are_refused_with_those_there_are(precision: str) -> None:
    with pytest.raises(ExportError, match=r"auto, fp32, .*int8-symmetric.*got"):
        parse_precision(precision)


def test_limits_are_of_figures_that_the_task_has() -> None:
    assert default_limits(Embed("v"), FLOATS, 0.995) == {"cosine": 0.995, "relative_error": 0.1}
    assert set(default_limits(Classify("v"), FLOATS, 0.999)) == {"cosine", "relative_error", "top1"}
    assert default_limits(Raw(), INTEGERS, 0.999) == {"equal": 1.0}
    assert default_limits(Ground("s", "b"), FLOATS, 0.995) == {"presence": 1.0, "score_difference": 0.1, "iou": 0.9}


def test_variants_replace_only_what_is_more_exact() -> None:
    names = list(VARIANTS)
    for variant in VARIANTS.values():
        assert all(names.index(other) < names.index(variant.name) for other in variant.replaces)
