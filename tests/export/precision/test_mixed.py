"""The search for the nodes that have to stay in float32."""

from __future__ import annotations

import math

import pytest

from mmedge_export.precision.mixed import excess, nodes_to_keep

NODES = [f"n{i}" for i in range(64)]


class Counted:
    """Passes once all `guilty` nodes are kept; the more of them, the better."""

    def __init__(self, guilty: set[str]) -> None:
        self.guilty = guilty
        self.calls = 0

    def __call__(self, kept: frozenset[str]) -> float:
        self.calls += 1
        return float(len(self.guilty - kept))


@pytest.mark.parametrize("guilty", [{"n0"}, {"n63"}, {"n17"}, {"n17", "n18"}, {"n3", "n40"}], ids=str)
def test_the_guilty_are_kept_and_few_others(guilty: set[str]) -> None:
    judge = Counted(guilty)
    kept = nodes_to_keep(NODES, judge)
    assert kept is not None
    assert guilty <= kept
    assert len(kept) <= 9 * len(guilty)
    assert judge.calls <= 28


def test_a_single_one_is_found_exactly() -> None:
    assert nodes_to_keep(NODES, Counted({"n17"})) == {"n17"}


def test_effort_is_bounded_and_failure_is_said() -> None:
    judge = Counted(set(NODES))
    assert nodes_to_keep(NODES, judge, attempts=10) is None
    assert judge.calls <= 10
    assert nodes_to_keep([], judge) is None


@pytest.mark.parametrize(
    ("found", "limits", "inside"),
    [
        ({"cosine": 0.999}, {"cosine": 0.99}, True),
        ({"cosine": 0.9}, {"cosine": 0.99}, False),
        ({"top1": 1.0}, {"top1": 1.0}, True),
        ({"top1": 0.9}, {"top1": 1.0}, False),
        ({"relative_error": 0.2}, {"relative_error": 0.1}, False),
        ({"cosine": math.nan}, {"cosine": 0.9}, False),
        ({}, {"cosine": 0.9}, False),
    ],
)
def test_excess_says_inside_or_outside(found: dict[str, float], limits: dict[str, float], inside: bool) -> None:
    assert (excess(found, limits) <= 0) == inside
