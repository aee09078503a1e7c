"""Prompts about a training scene, with their answers: which objects each one names, and which are too close to call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmedge.tabletop import HELD_OUT, RELATIONS, SHAPES, VISIBLE, Phrase, Prompt
from mmedge.tabletop.vocabulary import COLOR_WORDS, PLURALS, RELATION_PHRASES, SHAPE_WORDS, THING_WORDS
from mmedge_export.training.pool import COLOR_NAMES, OBJECTS

SURE, MAYBE = (0.5, 0.05), (0.25, 0.01)
"""(visible share, relation offset) at which an answer is certain, and at which it is at least possible."""

KINDS = ("pair", "color", "shape", "relation", "thing", "unknown")
SHARES = (0.37, 0.07, 0.09, 0.41, 0.01, 0.05)
UNKNOWN = "zzz"

Rng = np.random.Generator


@dataclass(frozen=True)
class Question:
    """A prompt's text and, for each object slot [8], whether it is named (`hit`) or undecided (`open`), and whether it
    is seen and fits the target phrase and the anchor phrase (`mentions` [8, 2])."""

    text: str
    hit: NDArray[np.bool_]
    open: NDArray[np.bool_]
    mentions: NDArray[np.bool_]


def fits(phrase: Phrase, row: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which of the 8 object slots the phrase describes, visible or not."""
    fit = np.arange(OBJECTS) < row["count"]
    if phrase.color is not None:
        fit = fit & (row["color"] == COLOR_NAMES.index(phrase.color))
    if phrase.shape is not None:
        fit = fit & (row["shape"] == SHAPES.index(phrase.shape))
    return np.asarray(fit)


def answer(prompt: Prompt, row: NDArray[np.void], limits: tuple[float, float]) -> NDArray[np.bool_]:
    """The objects [8] that the prompt names when `limits` are (least visible share, least relation offset)."""
    seen = row["visible"] >= limits[0]
    hit = fits(prompt.target, row) & seen
    if prompt.relation is None or prompt.anchor is None:
        return np.asarray(hit)
    axis = 0 if prompt.relation in ("left of", "right of") else 1
    sign = 1.0 if prompt.relation in ("right of", "in front of") else -1.0
    offset = sign * (row["base"][:, None, axis] - row["base"][None, :, axis])
    holds = (offset > limits[1]) & (fits(prompt.anchor, row) & seen)[None, :]
    np.fill_diagonal(holds, False)
    return np.asarray(hit & holds.any(axis=1))


def ask(rng: Rng, row: NDArray[np.void]) -> Question:
    """A random prompt about a scene, true of it or not. Never names a held-out pair."""
    kind = str(rng.choice(KINDS, p=SHARES))
    prompt = _draw(rng, kind, row)
    while any(pair in HELD_OUT for pair in prompt.pairs()):
        prompt = _draw(rng, kind, row)
    words = say(rng, prompt)
    if kind == "unknown":
        nothing = np.zeros(OBJECTS, bool)
        return Question(spoil(rng, words), nothing, nothing, np.zeros((OBJECTS, 2), bool))
    hit = answer(prompt, row, SURE)
    phrases = [prompt.target] if prompt.anchor is None else [prompt.target, prompt.anchor]
    mentions = np.zeros((OBJECTS, 2), bool)
    for i, phrase in enumerate(phrases):
        mentions[:, i] = fits(phrase, row) & (row["visible"] >= VISIBLE)
    return Question(" ".join(words), hit, answer(prompt, row, MAYBE) & ~hit, mentions)


def _draw(rng: Rng, kind: str, row: NDArray[np.void]) -> Prompt:
    if kind == "relation" or (kind == "unknown" and rng.random() < 0.4):
        return draw_relation(rng, row)
    if kind == "thing":
        return Prompt(Phrase())
    phrase = draw_phrase(rng, row)
    if kind == "color":
        return Prompt(Phrase(phrase.color, None))
    if kind == "shape":
        return Prompt(Phrase(None, phrase.shape))
    return Prompt(phrase)


def draw_phrase(rng: Rng, row: NDArray[np.void]) -> Phrase:
    """A colour and a shape: of one object, of two different objects, with one half wrong, or of none."""
    color, shape = int(rng.integers(len(COLOR_NAMES))), int(rng.integers(len(SHAPES)))
    count, case = int(row["count"]), rng.random()
    if count and case < 0.9:
        first, second = (int(i) for i in rng.integers(count, size=2))
        if case < 0.45:
            color, shape = int(row["color"][first]), int(row["shape"][first])
        elif case < 0.65:
            color, shape = int(row["color"][first]), int(row["shape"][second])
        elif case < 0.78:
            color = int(row["color"][first])
        else:
            shape = int(row["shape"][first])
    return describe(color, shape)


def describe(color: int, shape: int) -> Phrase:
    """The full phrase for indices as in `ROW`; without a colour where it has no name."""
    return Phrase(COLOR_NAMES[color] if color < len(COLOR_NAMES) else None, SHAPES[shape])


def _loosen(rng: Rng, phrase: Phrase) -> Phrase:
    case = rng.random()
    if case < 0.45:
        return phrase
    if case < 0.67:
        return Phrase(None, phrase.shape)
    return Phrase(phrase.color, None) if case < 0.92 else Phrase()


def draw_relation(rng: Rng, row: NDArray[np.void]) -> Prompt:
    """Two phrases and a relation that holds between two objects, or its opposite, or a phrase that fits nothing."""
    count = int(row["count"])
    if count < 2 or rng.random() < 0.2:
        target, anchor = draw_phrase(rng, row), draw_phrase(rng, row)
        return Prompt(_loosen(rng, target), str(rng.choice(RELATIONS)), _loosen(rng, anchor))
    i, j = (int(k) for k in rng.permutation(count)[:2])
    target, anchor = (_loosen(rng, describe(int(row["color"][k]), int(row["shape"][k]))) for k in (i, j))
    axis = int(rng.integers(2))
    after = bool(row["base"][i, axis] > row["base"][j, axis]) == bool(rng.random() < 0.6)
    return Prompt(target, (("left of", "right of"), ("behind", "in front of"))[axis][int(after)], anchor)


def say(rng: Rng, prompt: Prompt) -> list[str]:
    """The words of a prompt, with a random choice of article and synonym."""
    words = _say_phrase(rng, prompt.target)
    if prompt.relation is not None and prompt.anchor is not None:
        phrases = [phrase for phrase, relation in RELATION_PHRASES.items() if relation == prompt.relation]
        words += [*phrases[int(rng.integers(len(phrases)))], *_say_phrase(rng, prompt.anchor)]
    return words


def _say_phrase(rng: Rng, phrase: Phrase) -> list[str]:
    article = ("the", "a", "an", "any", "")[int(rng.integers(5))]
    colors = [word for word, color in COLOR_WORDS.items() if color == phrase.color] or [""]
    nouns = [word for word, shape in SHAPE_WORDS.items() if shape == phrase.shape]
    if phrase.shape is None:
        nouns = [*THING_WORDS, ""] if phrase.color is not None else list(THING_WORDS)
    noun = nouns[int(rng.integers(len(nouns)))]
    if noun and rng.random() < 0.1:
        noun = next(plural for plural, single in PLURALS.items() if single == noun)
    return [word for word in (article, colors[int(rng.integers(len(colors)))], noun) if word]


def spoil(rng: Rng, words: list[str]) -> str:
    """Put a word into the sentence that the vocabulary does not hold, in place of one or beside one."""
    at = int(rng.integers(len(words) + 1))
    end = at + 1 if rng.random() < 0.7 else at
    return " ".join([*words[:at], UNKNOWN, *words[end:]])
