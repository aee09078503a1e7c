"""Which nodes have to stay in float32, when a variant fails the comparison with all of them rounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from mmedge.agreement import HIGHER_IS_BETTER

Judge = Callable[[frozenset[str]], float]
"""Nodes that stay in float32 -> how far the variant is outside its limits; at most 0 is inside."""

ATTEMPTS = 28
"""Variants that are built and run to find the nodes, at most."""

_GROUPS = 8
_MOST = 0.5


def nodes_to_keep(nodes: Sequence[str], judge: Judge, *, attempts: int = ATTEMPTS) -> frozenset[str] | None:
    """A small set of nodes that makes the variant pass; None where half of the nodes and `attempts` do not suffice.

    Neighbouring nodes are taken in groups. The group that helps most is kept, until the variant passes; then what the
    last group does not need is given back by halves. It is a bounded search, so a smaller set may exist.

    Args:
        nodes: Those that were rounded, in the order of the graph.
        judge: Called with names of `nodes`.
    """
    left = [attempts]

    def ask(kept: frozenset[str]) -> float:
        left[0] -= 1
        return judge(kept)

    size = max(1, math.ceil(len(nodes) / _GROUPS))
    groups = [frozenset(nodes[i : i + size]) for i in range(0, len(nodes), size)]
    kept: frozenset[str] = frozenset()
    while groups and left[0] > 0 and len(kept) < _MOST * len(nodes):
        scores = {group: ask(kept | group) for group in groups[: left[0]]}
        best = min(scores, key=lambda group: scores[group])
        if scores[best] <= 0:
            return kept | _narrowed([n for n in nodes if n in best], kept, ask, left)
        kept |= best
        groups.remove(best)
    return None


def _narrowed(nodes: Sequence[str], kept: frozenset[str], ask: Judge, left: Sequence[int]) -> frozenset[str]:
    """A part of `nodes` that suffices beside `kept`, found by halves."""
    while len(nodes) > 1 and left[0] > 1:
        middle = len(nodes) // 2
        part = next((half for half in (nodes[:middle], nodes[middle:]) if ask(kept | frozenset(half)) <= 0), None)
        if part is None:
            break
        nodes = part
    return frozenset(nodes)


def excess(found: Mapping[str, float], limits: Mapping[str, float]) -> float:
    """How far the worst figure is outside its limit, as a multiple of what the limit allows, less 1."""
    worst = -1.0
    for name, limit in limits.items():
        value = found.get(name, math.nan)
        distance, allowed = (1 - value, 1 - limit) if HIGHER_IS_BETTER[name] else (value, limit)
        # A limit of perfect agreement allows nothing: missing it by a hundredth counts like twice another limit.
        beyond = distance / allowed - 1 if allowed > 0 else (-1.0 if distance <= 0 else 100 * distance)
        worst = max(worst, math.inf if math.isnan(beyond) else beyond)
    return worst
