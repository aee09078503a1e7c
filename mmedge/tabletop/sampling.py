"""Draws scenes at random. All lengths in metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from mmedge.tabletop.camera import Camera, View
from mmedge.tabletop.scene import (
    CLUTTER_KINDS,
    TABLE_KINDS,
    Body,
    Clutter,
    Gripper,
    Lens,
    Light,
    Scene,
    Sway,
)
from mmedge.tabletop.shapes import footprint
from mmedge.tabletop.vocabulary import COLORS, PAIRS, UNNAMED


def sample_scene(
    rng: np.random.Generator,
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    include: Sequence[tuple[str, str]] = (),
    unnamed: float = 0.0,
) -> Scene:
    """Draw a scene with 3 to 8 blocks of the allowed (colour, shape) `pairs`; None allows all.

    The pairs in `include` are on the table for certain. The share `unnamed` of the other blocks gets a random paint
    far from every named colour.
    """
    allowed = list(PAIRS if pairs is None else pairs)
    sway = _sample_sway(rng)
    count = max(int(rng.integers(3, 9)), len(include))
    names = [*include, *_sample_pairs(rng, allowed, count - len(include))]
    bodies = _place(rng, names, View(sway.camera, (640, 480)))
    if unnamed > 0:
        bodies = bodies[: len(include)] + tuple(
            replace(body, color=UNNAMED, paint=_unnamed_paint(rng)) if rng.random() < unnamed else body
            for body in bodies[len(include) :]
        )
    clutter = tuple(_sample_clutter(rng) for _ in range(int(rng.integers(0, 6))))
    return Scene(
        bodies=bodies,
        clutter=clutter,
        table=str(rng.choice(TABLE_KINDS)),
        light=_sample_light(rng),
        sway=sway,
        lens=_sample_lens(rng),
        gripper=_sample_gripper(rng) if rng.random() < 0.15 else None,
        seed=int(rng.integers(2**31)),
    )


def _sample_pairs(rng: np.random.Generator, allowed: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """Often repeats a colour or a shape that is already there, so that one word alone seldom names an object."""
    chosen: list[tuple[str, str]] = []
    for _ in range(count):
        pool = allowed
        if chosen and rng.random() < 0.5:
            color, shape = chosen[int(rng.integers(len(chosen)))]
            side = rng.random() < 0.5
            pool = [pair for pair in allowed if (pair[0] == color if side else pair[1] == shape)]
        chosen.append(pool[int(rng.integers(len(pool)))])
    return chosen


def _place(rng: np.random.Generator, names: list[tuple[str, str]], view: View) -> tuple[Body, ...]:
    """Blocks that do not touch, wherever they slide; those that find no room are left out."""
    placed: list[tuple[float, float, float]] = []
    kept: list[tuple[tuple[str, str], float]] = []
    for name in names:
        half = float(rng.uniform(0.030, 0.043))
        radius = half * footprint(name[1])
        for _ in range(30):
            x, y = float(rng.uniform(-0.30, 0.30)), float(rng.uniform(-0.26, 0.30))
            pixel, _ = view.project(np.array([[x, y, half]]))
            inside = 0.05 < pixel[0, 0] / 640 < 0.95 and 0.10 < pixel[0, 1] / 480 < 0.93
            if inside and all(np.hypot(x - px, y - py) > radius + pr + 0.004 for px, py, pr in placed):
                placed.append((x, y, radius))
                kept.append((name, half))
                break
    bodies = []
    for index, ((name, half), (x, y, radius)) in enumerate(zip(kept, placed, strict=True)):
        gaps = [np.hypot(x - px, y - py) - radius - pr for i, (px, py, pr) in enumerate(placed) if i != index]
        bodies.append(_sample_body(rng, name, half, (x, y), room=min([0.10, *gaps]) / 2))
    return tuple(bodies)


def _sample_body(
    rng: np.random.Generator, name: tuple[str, str], half: float, position: tuple[float, float], room: float
) -> Body:
    paint = np.array(COLORS[name[0]], dtype=np.float64)
    paint = np.clip(paint * rng.uniform(0.86, 1.08) + rng.uniform(-9, 9, size=3), 12, 250)
    reach, heading = room * rng.uniform(0.0, 0.95), rng.uniform(0, 2 * np.pi)
    return Body(
        color=name[0],
        shape=name[1],
        paint=(float(paint[0]), float(paint[1]), float(paint[2])),
        half=half,
        position=position,
        yaw=float(rng.uniform(0, 2 * np.pi)),
        slide=(float(reach * np.cos(heading)), float(reach * np.sin(heading))),
        slide_rate=float(rng.uniform(0.5, 1.6)),
        slide_phase=float(rng.uniform(0, 2 * np.pi)),
        turn_rate=float(rng.uniform(-0.7, 0.7)),
        gloss=float(rng.uniform(0.05, 0.5)),
    )


def _hue(paints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """BGR paints [n, 3] in 0..255 -> hue angle in degrees and chroma, both in CIE Lab."""
    lab = cv2.cvtColor((paints[None] / 255).astype(np.float32), cv2.COLOR_BGR2LAB)[0]
    return np.degrees(np.arctan2(lab[:, 2], lab[:, 1])), np.hypot(lab[:, 1], lab[:, 2])


def _unnamed_paint(rng: np.random.Generator) -> tuple[float, float, float]:
    """A paint whose hue lies between those with names: the first clear one of some random paints."""
    named, chroma = _hue(np.array(list(COLORS.values()), dtype=np.float64))
    paints = rng.uniform(20, 245, size=(32, 3))
    hues, strength = _hue(paints)
    apart = np.abs((hues[:, None] - named[chroma > 20][None] + 180) % 360 - 180).min(axis=1)
    paint = paints[int(np.argmax(np.minimum(apart, 22.0) * (strength > 16)))]
    return float(paint[0]), float(paint[1]), float(paint[2])


def _sample_clutter(rng: np.random.Generator) -> Clutter:
    paint = rng.uniform(40, 215, size=3) if rng.random() < 0.5 else np.full(3, rng.uniform(40, 225))
    return Clutter(
        kind=str(rng.choice(CLUTTER_KINDS)),
        position=(float(rng.uniform(-0.42, 0.42)), float(rng.uniform(-0.32, 0.38))),
        yaw=float(rng.uniform(0, 2 * np.pi)),
        paint=(float(paint[0]), float(paint[1]), float(paint[2])),
        seed=int(rng.integers(2**31)),
    )


def _sample_light(rng: np.random.Generator) -> Light:
    warm = rng.normal(0, 0.035)
    return Light(
        azimuth=float(rng.uniform(0, 2 * np.pi)),
        elevation=float(rng.uniform(0.65, 1.3)),
        tint=(float(1 - warm), float(1 + rng.normal(0, 0.012)), float(1 + warm)),
        ambient=float(rng.uniform(0.38, 0.62)),
        exposure=float(rng.uniform(0.72, 1.12)),
        softness=float(rng.uniform(0.004, 0.02)),
        drift=float(rng.uniform(0.0, 0.5)),
        flicker=float(rng.uniform(0.0, 0.12)),
        rate=float(rng.uniform(0.3, 0.9)),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def _sample_sway(rng: np.random.Generator) -> Sway:
    distance, elevation, azimuth = rng.uniform(0.64, 0.86), rng.uniform(0.62, 1.0), rng.uniform(-0.35, 0.35)
    target = (float(rng.uniform(-0.03, 0.03)), float(rng.uniform(-0.03, 0.04)), 0.02)
    reach = distance * np.cos(elevation)
    position = (
        float(target[0] + reach * np.sin(azimuth)),
        float(target[1] - reach * np.cos(azimuth)),
        float(target[2] + distance * np.sin(elevation)),
    )
    amplitude = rng.uniform(0.0, (0.035, 0.025, 0.02))
    rates = rng.uniform(0.4, 1.3, size=3)
    return Sway(
        camera=Camera(position, target, float(rng.normal(0, 0.02)), float(rng.uniform(0.98, 1.12))),
        amplitude=(float(amplitude[0]), float(amplitude[1]), float(amplitude[2])),
        rates=(float(rates[0]), float(rates[1]), float(rates[2])),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def _sample_lens(rng: np.random.Generator) -> Lens:
    return Lens(
        defocus=float(rng.uniform(0.0, 0.0028)) if rng.random() < 0.5 else 0.0,
        motion=float(rng.uniform(0.003, 0.010)) if rng.random() < 0.15 else 0.0,
        motion_angle=float(rng.uniform(0, np.pi)),
        noise=float(rng.uniform(1.0, 7.0)),
        vignette=float(rng.uniform(0.0, 0.35)),
    )


def _sample_gripper(rng: np.random.Generator) -> Gripper:
    grey = rng.uniform(70, 190)
    tint = rng.uniform(-8, 8, size=3)
    return Gripper(
        position=(float(rng.uniform(-0.22, 0.22)), float(rng.uniform(-0.24, 0.02)), float(rng.uniform(0.09, 0.16))),
        yaw=float(rng.uniform(-0.6, 0.6)),
        paint=(float(grey + tint[0]), float(grey + tint[1]), float(grey + tint[2])),
        rate=float(rng.uniform(0.4, 1.2)),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )
