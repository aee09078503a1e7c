"""Sentences: what they mean, what they match, and which are refused."""

from __future__ import annotations

import pytest

from mmedge.errors import PromptGrammarError
from mmedge.tabletop import RELATIONS, Object, Phrase, Prompt, Truth, matches, parse_prompt
from mmedge.tabletop.vocabulary import words


def thing(color: str, shape: str, x: float, y: float, visible: float = 1.0) -> Object:
    return Object(color, shape, (x - 5, y - 10, x + 5, y), visible, (x, y))


TABLE = Truth(
    (
        thing("red", "cube", 20, 80),
        thing("blue", "cube", 70, 80),
        thing("red", "ball", 72, 30),
        thing("green", "cone", 40, 50, visible=0.2),
    ),
    (100, 100),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the red cube", Prompt(Phrase("red", "cube"))),
        ("a BALL", Prompt(Phrase(None, "ball"))),
        ("any green thing", Prompt(Phrase("green", None))),
        ("yellow", Prompt(Phrase("yellow", None))),
        ("violet spheres!", Prompt(Phrase("purple", "ball"))),
        ("the boxes", Prompt(Phrase(None, "cube"))),
        ("an object", Prompt(Phrase())),
        ("a hoop left of the tube", Prompt(Phrase(None, "ring"), "left of", Phrase(None, "cylinder"))),
        ("red to the right of the cone", Prompt(Phrase("red", None), "right of", Phrase(None, "cone"))),
        ("the black block, in front of any item", Prompt(Phrase("black", "cube"), "in front of", Phrase())),
        ("a pyramid behind white", Prompt(Phrase(None, "pyramid"), "behind", Phrase("white", None))),
    ],
)
def test_parse(text: str, expected: Prompt) -> None:
    assert parse_prompt(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "the", "a giraffe", "the red car", "red green cube", "cube red", "the cube behind", "a ball left the cone",
     "the ball behind the cube behind the cone", "behind the cone", "42"],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(PromptGrammarError, match="cannot read the prompt"):
        parse_prompt(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the red cube", (0,)),
        ("a cube", (0, 1)),
        ("red", (0, 2)),
        ("a thing", (0, 1, 2)),
        ("the green cone", ()),
        ("the blue ball", ()),
        ("a cube left of the ball", (0,)),
        ("a cube right of the ball", ()),
        ("the ball right of a cube", (2,)),
        ("the red thing behind the blue cube", (2,)),
        ("a cube in front of a ball", (0, 1)),
        ("a cube left of a cube", (0,)),
        ("the ball left of the cone", ()),
    ],
)
def test_matches(text: str, expected: tuple[int, ...]) -> None:
    assert matches(text, TABLE) == expected


def test_visibility_limit_is_the_callers() -> None:
    assert matches("the green cone", TABLE, visible=0.1) == (3,)


def test_no_relation_within_the_margin() -> None:
    assert not any(TABLE.holds(relation, 1, 2) for relation in ("left of", "right of"))


def test_opposite_relations_exclude_each_other() -> None:
    for one, other in (RELATIONS[:2], RELATIONS[2:]):
        assert TABLE.offset(one, 0, 2) == -TABLE.offset(other, 0, 2)


def test_a_prompt_prints_as_a_prompt() -> None:
    for text in ("the red cube", "the blue thing left of the cone", "the thing behind the thing"):
        assert parse_prompt(str(parse_prompt(text))) == parse_prompt(text)


def test_words_are_lower_case_and_unique() -> None:
    assert list(words()) == sorted(set(words()))
    assert all(word.isalpha() and word == word.lower() for word in words())
