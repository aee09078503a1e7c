"""A procedural camera of a robot's table: frames, their exact truth, and the sentences about them."""

from mmedge.tabletop.grammar import Phrase, Prompt, matches, parse_prompt
from mmedge.tabletop.render import render
from mmedge.tabletop.sampling import sample_scene
from mmedge.tabletop.scene import Scene
from mmedge.tabletop.stream import Tabletop
from mmedge.tabletop.truth import VISIBLE, Object, Truth
from mmedge.tabletop.vocabulary import COLORS, HELD_OUT, PAIRS, RELATIONS, SEEN, SHAPES

__all__ = [
    "COLORS",
    "HELD_OUT",
    "PAIRS",
    "RELATIONS",
    "SEEN",
    "SHAPES",
    "VISIBLE",
    "Object",
    "Phrase",
    "Prompt",
    "Scene",
    "Tabletop",
    "Truth",
    "matches",
    "parse_prompt",
    "render",
    "sample_scene",
]
