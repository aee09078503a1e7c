"""The sentences that the built-in model understands.

prompt  = phrase [relation phrase]
phrase  = [the|a|an|any] (colour [noun] | noun)          noun: a shape, or thing | object | item
relation = [to the|on the] left of | [to the|on the] right of | in front of | behind
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmedge.errors import PromptGrammarError
from mmedge.tabletop.truth import VISIBLE, Object, Truth
from mmedge.tabletop.vocabulary import (
    ARTICLES,
    COLOR_WORDS,
    COLORS,
    PLURALS,
    RELATION_PHRASES,
    RELATIONS,
    SHAPE_WORDS,
    SHAPES,
    THING_WORDS,
)


@dataclass(frozen=True)
class Phrase:
    """A description of one object; None stands for any colour or any shape."""

    color: str | None = None
    shape: str | None = None

    def __str__(self) -> str:
        return " ".join(word for word in (self.color, self.shape or "thing") if word)

    def fits(self, thing: Object) -> bool:
        return self.color in (None, thing.color) and self.shape in (None, thing.shape)


@dataclass(frozen=True)
class Prompt:
    """A target, and where it stands relative to an anchor if the prompt says so."""

    target: Phrase
    relation: str | None = None
    anchor: Phrase | None = None

    def __str__(self) -> str:
        if self.relation is None:
            return f"the {self.target}"
        return f"the {self.target} {self.relation} the {self.anchor}"

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The (colour, shape) pairs that the prompt names in full."""
        phrases = [self.target] if self.anchor is None else [self.target, self.anchor]
        return tuple((p.color, p.shape) for p in phrases if p.color is not None and p.shape is not None)


def parse_prompt(text: str) -> Prompt:
    """Parse a prompt such as "the red cube" or "a ball left of the blue cone"; case and punctuation do not matter.

    Raises:
        PromptGrammarError: the text holds an unknown word or does not follow the grammar above.
    """
    words = re.findall(r"[a-z]+", text.lower())
    target, rest = _phrase(words, text)
    if not rest:
        return Prompt(target)
    for phrase, relation in RELATION_PHRASES.items():
        if tuple(rest[: len(phrase)]) == phrase:
            anchor, extra = _phrase(rest[len(phrase) :], text)
            if extra:
                raise _error(text, f"the words after {anchor} are too many: {' '.join(extra)!r}")
            return Prompt(target, relation, anchor)
    raise _error(text, f"expected the end or one of {', '.join(RELATIONS)} after {target}, got {' '.join(rest)!r}")


def _phrase(words: list[str], text: str) -> tuple[Phrase, list[str]]:
    at = 1 if words and words[0] in ARTICLES else 0
    color = COLOR_WORDS.get(words[at]) if at < len(words) else None
    at += color is not None
    noun = PLURALS.get(words[at], words[at]) if at < len(words) else ""
    shape = SHAPE_WORDS.get(noun)
    if shape is not None or noun in THING_WORDS:
        return Phrase(color, shape), words[at + 1 :]
    if color is None:
        got = repr(words[at]) if at < len(words) else "nothing"
        raise _error(text, f"expected a colour or a shape, got {got}")
    return Phrase(color, None), words[at:]


def _error(text: str, what: str) -> PromptGrammarError:
    return PromptGrammarError(
        f"cannot read the prompt {text!r}: {what}; use [the|a] [colour] shape [relation [the|a] [colour] shape] "
        f"with the colours {', '.join(COLORS)} and the shapes {', '.join(SHAPES)}"
    )


def matches(prompt: Prompt | str, truth: Truth, *, visible: float = VISIBLE) -> tuple[int, ...]:
    """Indices of the objects, visible by at least the share `visible`, that the prompt describes.

    A relation holds if it does so for any one fitting anchor that is visible too.
    """
    parsed = parse_prompt(prompt) if isinstance(prompt, str) else prompt
    seen = [i for i, thing in enumerate(truth.objects) if thing.visible >= visible]
    targets = [i for i in seen if parsed.target.fits(truth.objects[i])]
    if parsed.relation is None or parsed.anchor is None:
        return tuple(targets)
    anchors = [i for i in seen if parsed.anchor.fits(truth.objects[i])]
    relation = parsed.relation
    return tuple(i for i in targets if any(i != j and truth.holds(relation, i, j) for j in anchors))
