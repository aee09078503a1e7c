"""Cross-attention is found however it is written, folded where that is exact, and left alone where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import attentions as ways
from support.compiled import Compiled, Fusion
from torch import nn

Compile = Callable[..., Compiled]

FOLDED: dict[str, nn.Module] = {
    "scaled-dot-product": ways.Scaled(),
    "products-and-softmax": ways.Plain(),
    "layer-norm-no-bias": ways.Normed(),
    "multi-query": ways.MultiQuery(),
    "fused-keys-values": ways.FusedKeysValues(),
    "heads-in-the-batch": ways.Merged(),
    "multihead-module": ways.Module(True),
    "multihead-module-tokens-first": ways.Module(False),
    "dropout-off": ways.Dropped(),
    "weights-wanted": ways.WeightsWanted(),
}


@pytest.mark.parametrize("name", FOLDED)
def test_both_projections_are_folded_however_attention_is_written(name: str, compiled: Compile) -> None:
    made = compiled(Fusion(FOLDED[name], layers=2), max_length=6)
    made.check()
    first, second = made.result.sites
    assert (first.form, second.form) == ("compiled", "compiled"), made.result.sites
    assert "outputs" in first.why
    assert "folds scores and outputs" in second.why, made.result.sites
    assert second.heads == ways.H
    assert second.width == ways.D
    assert second.keys == ("text",)
    assert second.queries == ("image", "text")


LEFT: dict[str, tuple[nn.Module, str, str]] = {
    "query-norm": (ways.QueryNorm(), "compiled", "scores: the queries are normalised"),
    "rotary": (ways.Rotary(), "compiled", "scores: the queries are turned by their place"),
    "another-map-for-each-token": (ways.Placed(), "compiled", "scores: the queries are not made token by token"),
    "relative-bias-of-queries": (ways.RelativeBias(), "compiled", "scores: the queries are read elsewhere too"),
    "text-that-saw-the-image": (ways.ImageInText(), "plain", "which changes with every frame"),
    "no-projection-after": (ways.NoOutput(), "compiled", "outputs: no projection follows attention"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_linear_is_left_alone_and_the_report_says_why(name: str, compiled: Compile) -> None:
    module, form, why = LEFT[name]
    made = compiled(Fusion(module, layers=2), max_length=6)
    made.check()
    site = made.result.sites[-1]
    assert site.form == form
    assert why in site.why


def test_the_attention_operator_is_folded(compiled: Compile) -> None:
    short = compiled(Fusion(ways.Scaled(), layers=2), max_length=6, opset=23)
    assert "Attention" not in short.operators
    assert [site.form for site in short.result.sites] == ["compiled", "compiled"]
    short.check()


def test_long_prompts_leave_the_operator_as_it_was(compiled: Compile) -> None:
    both = compiled(Fusion(ways.Unmasked(), layers=2), max_length=64, opset=23)
    assert set(both.forms) >= {"compiled", "cached"}
    assert both.operators.count("Attention") == 2
    both.check()


def test_lengths_on_both_sides_of_the_break_even_give_two_forms(compiled: Compile) -> None:
    made = compiled(Fusion(ways.Plain(), layers=2), max_length=64)
    made.check()
    forms = made.result.forms

    def best(n: int, length: int) -> str:
        return min(forms, key=lambda name: forms[name].flops({"n": n, "l": length}))

    # 12 = D / (H - 1) tokens is where both cost the same.
    assert best(4, 8) == "mixed"
    assert best(4, 32) == "cached"
    # The first queries come from the image alone: one projection serves all prompts, so folding pays for few of them.
    assert best(1, 4) == "compiled"
    assert set(made.result.outputs) == set(forms)


def test_one_form_is_enough_when_all_prompts_are_short(compiled: Compile) -> None:
    made = compiled(Fusion(ways.Placed(), layers=2), max_length=4)
    assert made.result.forms == {}
    assert made.result.outputs == {}
    made.check()


@pytest.mark.parametrize("options", [{"max_length": 6}, {"max_length": 64}], ids=["one-form", "forms"])
def test_names_of_the_outputs_stay(options: dict[str, Any], compiled: Compile) -> None:
    made = compiled(Fusion(ways.Plain()), **options)
    assert "out" in [value.name for value in made.model.graph.outputs]
