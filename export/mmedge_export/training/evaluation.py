"""How well a grounding model finds what prompts name, on scenes that training never showed.

Works on any `predict`, so that the same numbers can be taken from the torch model and from the exported bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmedge.tabletop import HELD_OUT, PAIRS, RELATIONS, SEEN, Phrase, Prompt, Truth, render, sample_scene
from mmedge_export.training.pool import to_row
from mmedge_export.training.prompts import MAYBE, SURE, answer, say

Floats = NDArray[np.floating]
Predict = Callable[[NDArray[np.uint8], Sequence[str]], tuple[Floats, Floats]]
"""(frame [H, W, 3] uint8 BGR, N prompts) -> scores [N, K] best first, boxes [N, K, 4] xyxy in pixels of the frame."""

Pair = tuple[str, str]
UNKNOWN = ("a giraffe", "the red car", "a person", "the green banana", "a cup left of the ball", "find my keys")


@dataclass(frozen=True)
class Case:
    """One prompt about one frame; `targets` are the boxes [t, 4] that would be right, none if it is absent.
    `clear` is False where visibility or relation is near the limit of the definition."""

    kind: str
    text: str
    targets: Floats
    clear: bool


@dataclass
class Tally:
    """Counts of one kind of prompt."""

    hits: int = 0
    misses: int = 0
    false: int = 0
    quiet: int = 0
    overlaps: list[float] = field(default_factory=list)

    def add(self, case: Case, score: float, box: Floats, threshold: float) -> None:
        present, found = len(case.targets) > 0, score >= threshold
        self.hits += present and found
        self.misses += present and not found
        self.false += found and not present
        self.quiet += not present and not found
        if present and found:
            self.overlaps.append(float(overlap(case.targets, box).max()))

    def report(self) -> dict[str, float]:
        """presence_f1, its parts, mean_iou over all prompts rightly found present, box_accuracy (IoU >= 0.5)."""
        overlaps = np.array(self.overlaps) if self.overlaps else np.zeros(1)
        good = overlaps[overlaps >= 0.5]
        return {
            "prompts": self.hits + self.misses + self.false + self.quiet,
            "presence_f1": 2 * self.hits / max(2 * self.hits + self.misses + self.false, 1),
            "precision": self.hits / max(self.hits + self.false, 1),
            "recall": self.hits / max(self.hits + self.misses, 1),
            "false_alarm_rate": self.false / max(self.false + self.quiet, 1),
            "mean_iou": float(overlaps.mean()),
            "mean_iou_of_correct": float(good.mean()) if good.size else 0.0,
            "box_accuracy": float((overlaps >= 0.5).mean()),
        }


def overlap(boxes: Floats, box: Floats) -> Floats:
    """Intersection over union of `boxes` [n, 4] with one `box` [4], xyxy -> [n]."""
    inner = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.maximum(inner, 0).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + np.maximum(box[2:] - box[:2], 0).prod()
    return np.asarray(shared / np.maximum(area - shared, 1e-9))


def evaluate(
    predict: Predict, seed: int = 1000, scenes: int = 500, *, held_out: bool = True, threshold: float = 0.5
) -> dict[str, dict[str, float]]:
    """Metrics by prompt kind, and "main": every prompt about a pair (alone or in a relation) whose answer is clear;
    "main_strict" also counts the borderline ones.

    With `held_out` each scene shows one to three held-out pairs among others and all "pair" and "relation" prompts are
    about held-out pairs; without, scenes and prompts are of the kind that training saw.
    """
    tallies: dict[str, Tally] = {}
    for index in range(scenes):
        frame, cases = scene_cases(seed, index, held_out)
        scores, boxes = predict(frame, [case.text for case in cases])
        for case, score, box in zip(cases, scores[:, 0], boxes[:, 0], strict=True):
            counted = case.kind.startswith(("pair", "relation"))
            names = [case.kind] if case.clear else []
            names += (["main_strict"] + ["main"] * case.clear) if counted else []
            for name in names:
                tallies.setdefault(name, Tally()).add(case, float(score), box, threshold)
    return {name: tallies[name].report() for name in sorted(tallies)}


def scene_cases(seed: int, index: int, held_out: bool) -> tuple[NDArray[np.uint8], list[Case]]:
    """Frame `index` of an evaluation, 640x480 BGR, and the prompts to ask about it."""
    rng = np.random.default_rng([seed, index, int(held_out)])
    asked = sorted(HELD_OUT) if held_out else list(SEEN)
    count = int(rng.integers(1, 4))
    include = [asked[int(i)] for i in rng.choice(len(asked), count, replace=False)] if held_out else []
    scene = sample_scene(rng, PAIRS if held_out else SEEN, include=include)
    time, noise = float(rng.uniform(0, 8)), int(rng.integers(2**31))
    frame, truth = render(scene, (640, 480), time=time, noise=noise)
    prompts = _prompts(rng, truth, asked)
    return frame, [_case(rng, kind, prompt, truth) for kind, prompt in prompts] + [_unknown(rng)]


def _case(rng: np.random.Generator, kind: str, prompt: Prompt, truth: Truth) -> Case:
    row = to_row(truth)
    sure, maybe = answer(prompt, row, SURE), answer(prompt, row, MAYBE)
    strict = answer(prompt, row, (0.35, 0.03))
    boxes = np.array([thing.box for thing in truth.objects]).reshape(-1, 4)
    present = bool(strict.any())
    clear = bool(sure.any()) if present else not maybe.any()
    side = "present" if present else "absent"
    return Case(f"{kind}_{side}" if kind in ("pair", "relation") else kind, " ".join(say(rng, prompt)),
                boxes[strict[: len(boxes)]], clear)  # fmt: skip


def _unknown(rng: np.random.Generator) -> Case:
    return Case("unknown", UNKNOWN[int(rng.integers(len(UNKNOWN)))], np.zeros((0, 4)), True)


def _prompts(rng: np.random.Generator, truth: Truth, asked: list[Pair]) -> list[tuple[str, Prompt]]:
    shown = [(thing.color, thing.shape) for thing in truth.objects]
    there = [pair for pair in asked if pair in shown]
    absent = [pair for pair in asked if pair not in shown]
    # The hardest negatives first: both words fit something on the table, though no one thing.
    absent.sort(key=lambda pair: -sum(pair[0] == c for c, _ in shown[:9]) - sum(pair[1] == s for _, s in shown[:9]))
    chosen = [there[int(i)] for i in rng.permutation(len(there))[:2]] + absent[:1]
    chosen += [absent[int(rng.integers(len(absent)))]] if absent else []
    prompts = [("pair", Prompt(Phrase(*pair))) for pair in chosen]
    prompts += [("relation", prompt) for prompt in _relations(rng, truth, asked)]
    color, shape = PAIRS[int(rng.integers(len(PAIRS)))]
    some = shown[int(rng.integers(len(shown)))]
    prompts += [("color", Prompt(Phrase(some[0]))), ("color", Prompt(Phrase(color)))]
    return [*prompts, ("shape", Prompt(Phrase(None, some[1]))), ("shape", Prompt(Phrase(None, shape)))]


def _relations(rng: np.random.Generator, truth: Truth, asked: list[Pair]) -> list[Prompt]:
    """Four prompts whose target or anchor is a pair to ask about: two meant to hold, two turned round."""
    things = truth.objects
    named = [i for i, thing in enumerate(things) if (thing.color, thing.shape) in asked and thing.visible > 0.5]
    prompts: list[Prompt] = []
    if not named or len(things) < 2:
        return prompts
    for turn in range(4):
        i = named[int(rng.integers(len(named)))]
        j = int(rng.choice([k for k in range(len(things)) if k != i]))
        exact, other = Phrase(things[i].color, things[i].shape), Phrase(None, things[j].shape)
        if rng.random() < 0.5:
            other = Phrase(things[j].color, None)
        swap = rng.random() < 0.5
        first, second, a, b = (other, exact, j, i) if swap else (exact, other, i, j)
        axis = int(rng.integers(2))
        relation = max(RELATIONS[2 * axis : 2 * axis + 2], key=lambda name: truth.offset(name, a, b))
        if turn % 2:
            relation = next(name for name in RELATIONS[2 * axis : 2 * axis + 2] if name != relation)
        prompts.append(Prompt(first, relation, second))
    return prompts
