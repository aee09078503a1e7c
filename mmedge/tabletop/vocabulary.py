"""The words of the table: colours, shapes, their synonyms, and the pairs that training never sees together."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

COLORS: Final = MappingProxyType(
    {
        "red": (44, 38, 205),
        "green": (62, 150, 44),
        "blue": (196, 92, 30),
        "yellow": (38, 208, 240),
        "orange": (24, 122, 246),
        "purple": (160, 46, 122),
        "white": (238, 238, 238),
        "black": (42, 38, 36),
    }
)
"""Colour name -> nominal paint, BGR in 0..255."""

UNNAMED: Final = "other"
"""The colour of a block whose paint is none of `COLORS`."""

SHAPES: Final = ("cube", "ball", "cylinder", "cone", "pyramid", "ring")

PAIRS: Final = tuple((color, shape) for color in COLORS for shape in SHAPES)

HELD_OUT: Final = frozenset(
    {
        ("red", "cylinder"),
        ("green", "cone"),
        ("blue", "ring"),
        ("yellow", "cube"),
        ("orange", "pyramid"),
        ("purple", "ball"),
        ("white", "cone"),
        ("black", "ring"),
    }
)
"""Pairs that no training scene shows and no training prompt names: each colour once, each shape at most twice."""

SEEN: Final = tuple(pair for pair in PAIRS if pair not in HELD_OUT)

COLOR_WORDS: Final = MappingProxyType({**{color: color for color in COLORS}, "violet": "purple"})

SHAPE_WORDS: Final = MappingProxyType(
    {
        "cube": "cube", "block": "cube", "box": "cube",
        "ball": "ball", "sphere": "ball",
        "cylinder": "cylinder", "tube": "cylinder",
        "cone": "cone",
        "pyramid": "pyramid",
        "ring": "ring", "hoop": "ring",
    }
)  # fmt: skip

THING_WORDS: Final = ("thing", "object", "item")

PLURALS: Final = MappingProxyType(
    {word + ("es" if word.endswith("x") else "s"): word for word in (*SHAPE_WORDS, *THING_WORDS)}
)

ARTICLES: Final = ("the", "a", "an", "any")

RELATIONS: Final = ("left of", "right of", "in front of", "behind")

RELATION_PHRASES: Final = MappingProxyType(
    {
        ("left", "of"): "left of", ("to", "the", "left", "of"): "left of", ("on", "the", "left", "of"): "left of",
        ("right", "of"): "right of", ("to", "the", "right", "of"): "right of", ("on", "the", "right", "of"): "right of",
        ("in", "front", "of"): "in front of",
        ("behind",): "behind",
    }
)  # fmt: skip


def words() -> tuple[str, ...]:
    """Every word that a valid prompt may contain, sorted."""
    phrases = {word for phrase in RELATION_PHRASES for word in phrase}
    return tuple(sorted({*COLOR_WORDS, *SHAPE_WORDS, *THING_WORDS, *PLURALS, *ARTICLES, *phrases}))
