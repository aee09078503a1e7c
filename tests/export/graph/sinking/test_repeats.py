"""The ways in which a graph can repeat a tensor, each followed by something that computes and a join with the text."""

from __future__ import annotations

import numpy as np
import pytest
from support.sinking import Array, Sinking, graph

RNG = np.random.default_rng(13)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


ONES = {"ones": ints(1, 1), "four": ints(4), "zero": ints(0), "one": ints(1)}
# ``r`` is x [1, 4, 6], repeated for each row of the text.
WAYS = {
    "Expand": "sizes = Concat<axis=0>(rows, tail)  r = Expand(x, sizes)",
    "Expand by ones": "sizes = Concat<axis=0>(rows, ones)  r = Expand(x, sizes)",
    "Expand of a picture without a batch": (
        "p = Squeeze(x, zero)  q = Neg(p)  sizes = Concat<axis=0>(rows, tail)  r = Expand(q, sizes)"
    ),
    "Expand along two axes": (
        "p = ReduceMax(x, one)  sizes = Concat<axis=0>(rows, tail)  q = Expand(p, sizes)  r = Mul(q, x)"
    ),
    "Tile": "counts = Concat<axis=0>(rows, ones)  r = Tile(x, counts)",
    "Tile along two axes": (
        "p = ReduceMax(x, one)  counts = Concat<axis=0>(rows, four, one)  q = Tile(p, counts)  r = Mul(q, x)"
    ),
    "Tile after an Expand that is filled with ones": (
        "length = Shape(tail)  more = Add(length, one)  fill = ConstantOfShape<value = int64[1] {1}>(more)  "
        "p = Expand(x, fill)  counts = Concat<axis=0>(rows, ones)  r = Tile(p, counts)"
    ),
    "Gather by zeros": "m = Expand(zero, rows)  r = Gather(x, m)",
    "Gather by whatever the text says": (
        "m = ReduceMax<keepdims=0>(text, one)  s = Abs(m)  b = Floor(m)  c = Clip(b, low, high)  i = Cast<to=7>(c)  "
        "r = Gather(x, i)"
    ),
    "Gather of a copy": "m = Expand(zero, rows)  p = Gather(x, m)  r = Gather(p, m)",
    "GatherND": "m = Expand(zero, rows)  i = Unsqueeze(m, one)  r = GatherND(x, i)",
    "Add of zeros": "sizes = Concat<axis=0>(rows, ones)  z = ConstantOfShape(sizes)  r = Add(x, z)",
    "Expand along a new axis": (
        "sizes = Concat<axis=0>(one, rows, tail)  p = Unsqueeze(x, one)  q = Expand(p, sizes)  "
        "s = Concat<axis=0>(rows, tail)  r = Reshape(q, s)"
    ),
    "by its own target with -1 replaced": (
        "wanted = Concat<axis=0>(rows, minus)  same = Equal(wanted, minus1)  "
        "fill = ConstantOfShape<value = int64[1] {1}>(three)  sizes = Where(same, fill, wanted)  r = Expand(x, sizes)"
    ),
}
OPEN = {
    "a product with ones": (
        "sizes = Concat<axis=0>(rows, one)  z = Expand(unit, sizes)  p = Reshape(x, flat)  q = MatMul(z, p)  "
        "back = Concat<axis=0>(rows, tail)  r = Reshape(q, back)"
    ),
}
FIXED = {
    "Concat": "r = Concat<axis=0>(x, x, x)",
    "Add of a constant with equal rows": "r = Add(x, equal)",
    "Gather by constants": "r = Gather(x, places)",
}
CONSTANTS = {
    **ONES,
    "low": np.float32(-1),
    "high": np.float32(0),
    "unit": np.float32([[1]]),
    "flat": ints(1, -1),
    "minus": ints(-1, -1),
    "minus1": ints(-1),
    "three": ints(3),
    "equal": np.repeat(RNG.standard_normal((1, 4, 6)).astype(np.float32), 3, axis=0),
    "places": ints(0, -1, 0),
}
BODY = "e = Exp(r)  t = Tanh(e)  m2 = ReduceSum(text, one)  w = Unsqueeze(m2, one)  y = Mul(t, w)"


@pytest.mark.parametrize(
    ("way", "fixed"),
    [*((way, False) for way in WAYS | OPEN), *((way, True) for way in WAYS | FIXED)],
    ids=lambda value: value if isinstance(value, str) else ("fixed n" if value else "open n"),
)
def test_the_repeat_is_found(way: str, fixed: bool) -> None:
    repeat = (WAYS | OPEN | FIXED)[way]
    sinking = Sinking(graph(BODY, (1, 4, 6), CONSTANTS, rows=3 if fixed else "n", repeat=repeat))
    [exp] = [node.outputs[0] for node in sinking.model.graph if node.op_type == "Exp"]
    assert exp.shape is not None
    assert list(exp.shape) == [1, 4, 6]
    assert sinking.labels("Exp", "Tanh") == {"x"}
    assert set(sinking.stops) == {"Mul"}
    sinking.check((1, 4, 6), (3,) if fixed else (1, 2, 5))


OPEN_SIZES = {
    "flattened by its own shape": (
        "s = Shape(c)  b = Slice(s, zero, two)  k = Concat<axis=0>(b, minus)  t = Reshape(c, k)"
    ),
    "flattened by copying": "t = Reshape(c, copied)",
    "flattened by a product": (
        "s = Shape(c)  b = Slice(s, zero, two)  h = Slice(s, two, three)  v = Slice(s, three, four)  a = Mul(h, v)  "
        "k = Concat<axis=0>(b, a)  t = Reshape(c, k)"
    ),
    "enlarged": (
        "s = Shape(c)  b = Slice(s, zero, two)  v = Slice(s, two, four)  a = Mul(v, two)  k = Concat<axis=0>(b, a)  "
        "t = Resize(c, , , k)"
    ),
    "cut at its own size": (
        "s = Shape(c)  v = Slice(s, two, three)  u = Div(v, two)  z = Slice(s, three, four)  "
        "p = Slice(c, one, z, three)  t = Slice(p, zero, v, two)"
    ),
}


@pytest.mark.parametrize("way", OPEN_SIZES)
def test_pictures_of_open_height_and_width(way: str) -> None:
    """What the base cannot know of its size it asks of itself, not of the repeated tensor."""
    constants = {
        "ones": ints(1, 1, 1),
        "zero": ints(0),
        "one": ints(1),
        "two": ints(2),
        "three": ints(3),
        "four": ints(4),
        "minus": ints(-1),
        "copied": ints(0, 0, -1),
        "w": RNG.standard_normal((5, 2, 3, 3)).astype(np.float32),
    }
    model = graph(
        f"c = Conv(r, w)  {OPEN_SIZES[way]}  y = Softmax(t)",
        (1, 2, "h", "w"),
        constants,
        repeat="counts = Concat<axis=0>(rows, ones)  r = Tile(x, counts)",
    )
    sinking = Sinking(model)
    assert sinking.labels("Conv", "Softmax") == {"x"}
    for size in ((1, 2, 7, 9), (1, 2, 4, 3)):
        sinking.check(size, (1, 2, 5))


def test_rows_that_are_repeated_in_place_keep_their_order() -> None:
    """Two pictures, each three times in a row: 0 0 0 1 1 1."""
    repeat = (
        "p = Unsqueeze(x, one)  s = Concat<axis=0>(two, rows, tail)  q = Expand(p, s)  "
        "k = Concat<axis=0>(minus, tail)  r = Reshape(q, k)"
    )
    constants = {"one": ints(1), "two": ints(2), "minus": ints(-1), "axis": np.int64(0)}
    sinking = Sinking(graph("e = Exp(r)  y = CumSum(e, axis)", (2, 4, 6), constants, repeat=repeat))
    assert sinking.labels("Exp") == {"x"}
    sinking.check((2, 4, 6), (1, 2, 5))


def test_a_repeat_of_a_repeat_sinks_too() -> None:
    body = (
        "e = Exp(r)  u = Unsqueeze(e, one)  k = Concat<axis=0>(rows, rows, tail)  v = Expand(u, k)  "
        "t = Tanh(v)  y = Neg(t)"
    )
    sinking = Sinking(graph(body, (1, 4, 6), {"one": ints(1)}))
    assert sinking.labels("Exp") == {"x"}
    sinking.check((1, 4, 6), (1, 2, 5))
