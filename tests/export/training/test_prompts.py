"""Training prompts and their answers agree with the grammar, and never touch a held-out pair."""

from __future__ import annotations

import numpy as np
import pytest

from mmedge.errors import PromptGrammarError
from mmedge.tabletop import HELD_OUT, SEEN, matches, parse_prompt, render, sample_scene
from mmedge_export.training.pool import to_row, training_scene
from mmedge_export.training.prompts import UNKNOWN, answer, ask, describe
from mmedge_export.training.tokenizer import build_tokenizer


def test_training_scenes_show_no_held_out_pair() -> None:
    for index in range(60):
        row = training_scene(7, index, (48, 36))[1]
        count = int(row["count"])
        named = [describe(c, s) for c, s in zip(row["color"][:count], row["shape"][:count], strict=True)]
        pairs = {(phrase.color, phrase.shape) for phrase in named}
        assert not pairs & HELD_OUT


def test_training_scenes_are_repeatable() -> None:
    first, second = training_scene(3, 14, (48, 36)), training_scene(3, 14, (48, 36))
    assert np.array_equal(first[0], second[0])
    assert first[1] == second[1]


def test_training_prompts_name_no_held_out_pair() -> None:
    rng = np.random.default_rng(0)
    present = absent = 0
    for index in range(30):
        row = training_scene(1, index, (48, 36))[1]
        for _ in range(60):
            question = ask(rng, row)
            if UNKNOWN in question.text.split():
                assert not question.hit.any()
                continue
            assert not set(parse_prompt(question.text).pairs()) & HELD_OUT
            present += bool(question.hit.any())
            absent += not (question.hit | question.open).any()
    assert present > 300
    assert absent > 300


def test_answers_equal_the_grammars() -> None:
    rng = np.random.default_rng(5)
    for seed in range(25):
        truth = render(sample_scene(np.random.default_rng(seed), SEEN), (96, 72))[1]
        row = to_row(truth)
        for _ in range(20):
            text = ask(rng, row).text
            try:
                prompt = parse_prompt(text)
            except PromptGrammarError:
                assert UNKNOWN in text
                continue
            hit = answer(prompt, row, (0.35, 0.03))
            assert tuple(np.flatnonzero(hit)) == matches(prompt, truth)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The RED cube!", ["[CLS]", "the", "red", "cube"]),
        ("a giraffe, left of spheres", ["[CLS]", "a", "[UNK]", "left", "of", "spheres"]),
        ("", ["[CLS]"]),
    ],
)
def test_tokenizer(text: str, tokens: list[str]) -> None:
    assert build_tokenizer().encode(text).tokens == tokens


def test_tokenizer_truncates_and_pads() -> None:
    first, second = build_tokenizer(6).encode_batch(["the red cube left of the green ball", "red"])
    assert len(first.ids) == len(second.ids) == 6
    assert second.attention_mask == [1, 1, 0, 0, 0, 0]
