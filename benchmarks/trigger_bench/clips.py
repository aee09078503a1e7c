"""A fixed camera of a table on which things come and go, by a plan that is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmedge.tabletop import COLORS, PAIRS, SHAPES, Scene, Truth, render, sample_scene
from mmedge.tabletop.camera import View
from mmedge.tabletop.scene import Body

Pair = tuple[str, str]

SIZE = (320, 240)
_MOVE_S = 0.8
_OUTSIDE = 0.75

_NEAR_COLOR = {
    "red": "orange", "orange": "red", "yellow": "orange", "green": "blue", "blue": "purple", "purple": "blue",
    "white": "yellow", "black": "blue",
}  # fmt: skip
_NEAR_SHAPE = {
    "cube": "cylinder", "cylinder": "cube", "cone": "pyramid", "pyramid": "cone", "ball": "ring", "ring": "ball",
}  # fmt: skip
_OPPOSITE = {"left of": "right of", "right of": "left of"}


@dataclass(frozen=True)
class Visit:
    """A block that slides in from the side, stands from `begin` to `end` (seconds) and slides out again."""

    name: str
    body: Body
    begin: float
    end: float

    def at(self, time: float) -> Body | None:
        """The block at `time`, None where it is not in the room."""
        inside = min((time - self.begin) / _MOVE_S + 1, (self.end - time) / _MOVE_S + 1, 1.0)
        if inside <= 0:
            return None
        x, y = self.body.position
        side = _OUTSIDE if x > 0 else -_OUTSIDE
        return replace(self.body, position=(side + (x - side) * inside, y))


@dataclass(frozen=True)
class Clip:
    """Frames of one plan; `names[i]` of a frame names its truth's object i for the whole clip."""

    scene: Scene
    visits: tuple[Visit, ...]
    seconds: float
    fps: float
    noise: int

    def frames(self) -> Iterator[tuple[float, NDArray[np.uint8], Truth, tuple[str, ...]]]:
        """Time in seconds, picture, truth, names."""
        for index in range(round(self.seconds * self.fps)):
            time = index / self.fps
            present = [(visit.name, body) for visit in self.visits if (body := visit.at(time)) is not None]
            names = tuple(f"block{i}" for i in range(len(self.scene.bodies))) + tuple(name for name, _ in present)
            scene = replace(self.scene, bodies=self.scene.bodies + tuple(body for _, body in present))
            image, truth = render(scene, SIZE, time=time, noise=self.noise + index)
            yield time, image, truth, names


@dataclass(frozen=True)
class Camera:
    """What one camera looks at: a background clip in which nothing asked for appears, and a clip with events.

    Attributes:
        prompts: Of the triggers: two with colour and shape, one with a shape, one with a relation.
        negatives: Of each prompt, what is most like it.
    """

    prompts: tuple[str, ...]
    negatives: tuple[tuple[str, ...], ...]
    background: Clip
    events: Clip


def camera(seed: int, fps: float, background_s: float, events_s: float) -> Camera:
    """The camera of a seed. Both clips share room, light, camera and standing blocks, and differ in all visits."""
    rng = np.random.default_rng([7, seed])
    shape = str(rng.choice(SHAPES))
    usual = [pair for pair in PAIRS if pair[1] != shape]
    chosen = [usual[int(i)] for i in rng.choice(len(usual), size=3, replace=False)]
    ordinary = [pair for pair in usual if pair not in chosen]
    scene, slots = _room(rng, ordinary)
    anchor = scene.bodies[len(scene.bodies) // 2]
    relation = str(rng.choice(list(_OPPOSITE)))
    first, second, third = chosen
    prompts = (
        _the(first),
        _the(second),
        f"the {shape}",
        f"{_the(third)} {relation} {_the((anchor.color, anchor.shape))}",
    )
    negatives = (
        *(tuple(_the(pair) for pair in _like(chosen[i])) for i in range(2)),
        (f"the {_NEAR_SHAPE[shape]}",),
        (f"{_the(third)} {_OPPOSITE[relation]} {_the((anchor.color, anchor.shape))}",),
    )
    alike = [pair for pair in ordinary if any(pair[k] == wanted[k] for wanted in chosen[:2] for k in range(2))]
    targets = [[first], [second], [(color, shape) for color in COLORS], [third]]

    def clip(seconds: float, wanted: list[list[Pair]], noise: int) -> Clip:
        streams = [*wanted, alike, ordinary]
        visits = [
            visit
            for number, pairs in enumerate(streams)
            for visit in _visits(rng, f"s{number}", pairs, slots[2 * number : 2 * number + 2], seconds)
        ]
        return Clip(scene, tuple(visits), seconds, fps, noise)

    nobody: list[list[Pair]] = [[], [], [], []]
    return Camera(
        prompts, negatives, clip(background_s, nobody, 10**6 * seed), clip(events_s, targets, 10**6 * seed + 10**5)
    )


def _the(pair: Pair) -> str:
    return f"the {pair[0]} {pair[1]}"


def _like(pair: Pair) -> tuple[Pair, Pair]:
    return (_NEAR_COLOR[pair[0]], pair[1]), (pair[0], _NEAR_SHAPE[pair[1]])


def _room(rng: np.random.Generator, pairs: list[Pair]) -> tuple[Scene, list[tuple[float, float]]]:
    """A scene with up to three standing blocks, and twelve free places, far from each other as far as there is room."""
    scene = sample_scene(rng, pairs)
    bodies = tuple(sorted(scene.bodies[:3], key=lambda body: body.position[0]))
    view = View(scene.sway.camera, (640, 480))
    taken = [body.position for body in bodies]
    slots: list[tuple[float, float]] = []
    apart = 0.13
    while len(slots) < 12:
        x, y = float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.26, 0.30))
        pixel = view.project(np.array([[x, y, 0.035]]))[0][0] / (640, 480)
        inside = 0.06 < pixel[0] < 0.94 and 0.12 < pixel[1] < 0.9
        if inside and all(np.hypot(x - a, y - b) > apart for a, b in taken):
            taken.append((x, y))
            slots.append((x, y))
        apart *= 0.9995
    return replace(scene, bodies=bodies), slots


def _visits(
    rng: np.random.Generator, stream: str, pairs: list[Pair], slots: list[tuple[float, float]], seconds: float
) -> Iterator[Visit]:
    """One after the other, 2 to 9 s each, with 3 s and more in between."""
    time = float(rng.uniform(2, 8))
    number = 0
    while pairs and time + 2 < seconds:
        color, shape = pairs[int(rng.integers(len(pairs)))]
        like = sample_scene(rng, [(color, shape)]).bodies[0]
        x, y = slots[int(rng.integers(len(slots)))]
        body = replace(like, position=(x, y), slide=(0.01 * float(rng.standard_normal()), 0.0))
        stay = float(rng.uniform(2, 9))
        yield Visit(f"{stream}-{number}", body, time, time + stay)
        time += stay + 2 * _MOVE_S + 3 + float(rng.exponential(6))
        number += 1
