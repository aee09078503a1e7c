"""Forms: frame stages that compute the same in different ways, of which the cheapest runs.

A prompt of four tokens and one of seventy want different programs for the same model. A bundle that serves both carries
a form for each, and says what a frame costs in each, as a function of the sizes of the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from mmedge.bundle.fields import Fields
from mmedge.errors import BundleFormatError


@dataclass(frozen=True)
class Term:
    """`flops` operations for each unit of the product of the sizes of `axes`; () is a constant."""

    flops: float
    axes: tuple[str, ...]

    @staticmethod
    def from_fields(fields: Fields) -> Term:
        term = Term(fields.number("flops"), fields.strings("axes"))
        if term.flops < 0:
            raise BundleFormatError(f"manifest: {fields.place('flops')} must be at least 0, got {term.flops}")
        return term


@dataclass(frozen=True)
class Form:
    """What a frame costs in this form, apart from what every form does.

    Attributes:
        cost: The sum of these terms is compared between forms.
    """

    cost: tuple[Term, ...]

    def flops(self, sizes: Mapping[str, int]) -> float:
        """Operations for these sizes of the named axes.

        Raises:
            KeyError: A size is missing.
        """
        return sum(term.flops * math.prod(sizes[axis] for axis in term.axes) for term in self.cost)

    def to_json(self) -> dict[str, object]:
        return {"cost": [asdict(term) for term in self.cost]}

    @staticmethod
    def from_fields(fields: Fields) -> Form:
        return Form(fields.each("cost", Term.from_fields))


@dataclass(frozen=True)
class Site:
    """One cross-attention of the model, and what the prompt compiler made of it.

    Attributes:
        name: The module that owns its weights, where their names tell, or the node of its softmax.
        queries, keys: The modalities on which the queries, and the keys and values, depend.
        heads, width: Number of heads, and width of the tokens that ask.
        form: ``compiled`` (the projections are folded into the keys and values at prompt time), ``cached`` (keys and
            values are kept while the prompt stands) or ``plain`` (computed for each frame).
        why: What was done and up to which size, or why nothing could be done, in words.
    """

    name: str
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    heads: int
    width: int
    form: str
    why: str

    @staticmethod
    def from_fields(fields: Fields) -> Site:
        return Site(
            name=fields.string("name"),
            queries=fields.strings("queries"),
            keys=fields.strings("keys"),
            heads=fields.integer("heads"),
            width=fields.integer("width"),
            form=fields.string("form", ("compiled", "cached", "plain")),
            why=fields.string("why"),
        )
