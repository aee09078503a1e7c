"""Prompts as a line of text and back."""

from __future__ import annotations

import pytest

from mmedge.sinks.prompts import MOST_TEXT, parse_prompts, prompts_line


@pytest.mark.parametrize(
    "prompts",
    [
        ["a person"],
        ["a person", "ein Kätzchen, müde"],
        ["a; b", "c"],
        ["[odd", "b"],
        ['"quoted"'],
        ["line\nbreak", "x"],
    ],
    ids=repr,
)
def test_a_line_reads_back_as_the_same_prompts(prompts: list[str]) -> None:
    line = prompts_line(prompts)
    assert "\n" not in line
    assert parse_prompts(line.encode()) == prompts


def test_a_line_that_home_assistant_cannot_hold_is_left_out() -> None:
    assert len(prompts_line(["x" * MOST_TEXT])) == MOST_TEXT
    assert prompts_line(["x" * (MOST_TEXT + 1)]) == ""
