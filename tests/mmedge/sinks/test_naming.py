"""Names for topics and identifiers."""

from __future__ import annotations

import re

import pytest

from mmedge.sinks.naming import slug

TEXTS = [
    "front",
    "front door",
    "front_door",
    "front-door",
    "Tür",
    "Tor",
    "",
    " ",
    "a/b",
    "a+b",
    "a#b",
    "x" * 49,
    "x" * 50,
]


def test_names_that_fit_stay_as_they_are() -> None:
    assert slug("front-door_2") == "front-door_2"


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_others_are_made_to_fit(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,60}", slug(text))


def test_different_texts_get_different_names_and_the_same_ones_the_same() -> None:
    assert len({slug(text) for text in TEXTS}) == len(TEXTS)
    assert slug("a person") == "a_person_df381eb4"
