"""The table's surface and the flat things that lie on it, drawn in table coordinates, and the room behind."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mmedge.tabletop.scene import TABLE_X, TABLE_Y, Clutter

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
SHIFT = 4

WIDTH = TABLE_X[1] - TABLE_X[0]
HEIGHT = TABLE_Y[1] - TABLE_Y[0]


def grain(rng: np.random.Generator, cells: tuple[int, int], size: tuple[int, int]) -> Floats:
    """Smooth noise around 0 with unit spread, [height, width]; `cells` (across, down) sets the coarseness."""
    coarse = rng.standard_normal((cells[1], cells[0]), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def table_texture(kind: str, clutter: tuple[Clutter, ...], seed: int, width: int) -> Image:
    """Texture [h, width, 3] of the whole table; row 0 is the far edge."""
    rng = np.random.default_rng(seed)
    size = (width, round(width * HEIGHT / WIDTH))
    painters = {
        "wood": _wood, "cloth": _cloth, "checker": _checker, "plain": _plain, "stone": _stone, "mat": _mat,
    }  # fmt: skip
    surface = painters[kind](rng, size)
    for item in clutter:
        if item.kind in FLAT:
            FLAT[item.kind](surface, item, np.random.default_rng(item.seed))
    return surface


def _paint(rng: np.random.Generator) -> Floats:
    """A muted table colour."""
    grey = rng.uniform(75, 200)
    return np.asarray(np.clip(grey + rng.uniform(-28, 28, size=3), 40, 225), dtype=np.float32)


def _coat(paint: Floats, shade: Floats) -> Image:
    """A colour [3] under a shade [h, w] around 1, quantised to 1/128."""
    grey = np.clip(shade * 128, 0, 255).astype(np.uint8)
    table = np.clip(np.arange(256)[:, None] * (paint / 128), 0, 255).astype(np.uint8).reshape(1, 256, 3)
    return np.asarray(cv2.LUT(cv2.merge([grey, grey, grey]), table), dtype=np.uint8)


def _wood(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    tones = np.array([[48, 84, 128], [70, 112, 160], [110, 150, 190], [40, 58, 84]], np.float32)
    paint = tones[rng.integers(4)] * np.float32(rng.uniform(0.85, 1.2))
    across = np.linspace(0, HEIGHT, size[1], dtype=np.float32)[:, None]
    waves = np.sin(across * np.float32(rng.uniform(90, 220)) + 2.4 * grain(rng, (5, 9), size))
    streaks = grain(rng, (14, 150), size)
    planks = np.floor(across / np.float32(rng.uniform(0.11, 0.2)))
    seam = np.diff(planks, axis=0, prepend=planks[:1]) > 0
    row = (1 + 0.05 * np.sin(planks * 2.4)) * np.where(seam, np.float32(0.72), np.float32(1))
    return _coat(paint, (1 + 0.07 * waves + 0.05 * streaks) * row)


def _cloth(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    shade = 1 + 0.06 * grain(rng, (6, 4), size) + 0.02 * grain(rng, (160, 110), size)
    period = max(size[0] // 200, 3)
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    shade += np.float32(0.035) * ((x // period % 2) ^ (y // period % 2))
    if rng.random() < 0.4:
        stripe = (x / size[0] * rng.integers(9, 22)) % 1 < 0.3
        shade *= np.where(stripe, np.float32(0.84), np.float32(1.0))
    return _coat(_paint(rng), shade)


def _checker(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    pitch = rng.uniform(0.035, 0.09) / WIDTH * size[0]
    odd = ((np.arange(size[0]) // pitch) % 2 == 0) ^ ((np.arange(size[1]) // pitch) % 2 == 0)[:, None]
    shade = 1 + 0.02 * grain(rng, (60, 40), size)
    first, second = _coat(_paint(rng), shade), _coat(_paint(rng), shade)
    cv2.copyTo(first, odd.astype(np.uint8), second)
    return second


def _plain(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    return _coat(_paint(rng), 1 + 0.02 * grain(rng, (7, 5), size) + 0.012 * grain(rng, (130, 90), size))


def _stone(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    turbulence = grain(rng, (6, 5), size) + 0.5 * grain(rng, (13, 9), size) + 0.25 * grain(rng, (40, 27), size)
    veins = np.exp(-9 * np.abs(turbulence))
    return _coat(_paint(rng), 1 + 0.05 * turbulence - 0.22 * veins + 0.03 * grain(rng, (200, 130), size))


def _mat(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """A cutting mat: a plain sheet with a thin grid."""
    paint = _paint(rng)
    pitch, thin = size[0] * rng.uniform(0.02, 0.05), max(size[0] / 900, 0.8)
    line = (np.arange(size[0]) % pitch < thin) | (np.arange(size[1]) % pitch < thin)[:, None]
    shade = 1 + 0.02 * grain(rng, (7, 5), size)
    shade *= np.where(line, np.float32(1.25 if paint.mean() < 130 else 0.8), np.float32(1))
    return _coat(paint, shade)


def _corners(surface: Image, item: Clutter, points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Points [n, 2] in metres around the item -> fixed-point texture pixels."""
    scale = surface.shape[1] / WIDTH
    cos, sin = np.cos(item.yaw), np.sin(item.yaw)
    turned = points @ np.array([[cos, sin], [-sin, cos]]) + np.array(item.position)
    pixels = np.stack([(turned[:, 0] - TABLE_X[0]) * scale, (TABLE_Y[1] - turned[:, 1]) * scale], axis=1)
    return np.round(pixels * (1 << SHIFT)).astype(np.int32)


def _rectangle(width: float, height: float) -> NDArray[np.float64]:
    x, y = width / 2, height / 2
    return np.array([[-x, -y], [x, -y], [x, y], [-x, y]])


def _fill(surface: Image, item: Clutter, points: NDArray[np.float64], paint: tuple[float, ...]) -> None:
    cv2.fillPoly(surface, [_corners(surface, item, points)], paint, lineType=cv2.LINE_AA, shift=SHIFT)


def _paper(surface: Image, item: Clutter, rng: np.random.Generator) -> None:
    width, height = rng.uniform(0.10, 0.21), rng.uniform(0.12, 0.28)
    white = float(rng.uniform(205, 245))
    _fill(surface, item, _rectangle(width, height), (white, white, white))
    for row in np.arange(0.42, -0.42, -0.07):
        if rng.random() < 0.75:
            line = np.array([[-0.42, row], [rng.uniform(0.0, 0.42), row], [0.0, row - 0.018], [-0.42, row - 0.018]])
            line[2, 0] = line[1, 0]
            _fill(surface, item, line * (width, height), (white - 90, white - 95, white - 100))


def _note(surface: Image, item: Clutter, rng: np.random.Generator) -> None:
    side = rng.uniform(0.05, 0.08)
    paint = np.array([[140, 235, 245], [190, 170, 240], [220, 215, 160], [160, 225, 190]])[rng.integers(4)]
    _fill(surface, item, _rectangle(side, side), tuple(float(v) for v in paint))


def _stain(surface: Image, item: Clutter, rng: np.random.Generator) -> None:
    radius = rng.uniform(0.025, 0.055)
    mask = np.zeros(surface.shape[:2], np.uint8)
    center = _corners(surface, item, np.zeros((1, 2)))[0]
    pixels = round(radius / WIDTH * surface.shape[1] * (1 << SHIFT))
    thick = max(round(surface.shape[1] * rng.uniform(0.002, 0.006)), 1) if rng.random() < 0.6 else -1
    cv2.circle(mask, (int(center[0]), int(center[1])), pixels, 255, thick, cv2.LINE_AA, SHIFT)
    soft = cv2.GaussianBlur(mask, (0, 0), max(surface.shape[1] * 0.0015, 0.5))
    strength = np.float32(rng.uniform(0.15, 0.4) / 255)
    surface[:] = (surface * (1 - soft[:, :, None] * strength)).astype(np.uint8)


def _coin(surface: Image, item: Clutter, rng: np.random.Generator) -> None:
    scale = surface.shape[1] / WIDTH * (1 << SHIFT)
    center = _corners(surface, item, np.zeros((1, 2)))[0]
    paint = np.array([[60, 110, 150], [150, 155, 160], [70, 140, 175]])[rng.integers(3)]
    radius = rng.uniform(0.009, 0.013)
    for share, gain in ((1.0, 0.7), (0.88, 1.0), (0.6, 1.12)):
        color = tuple(float(v) for v in paint * gain)
        cv2.circle(
            surface, (int(center[0]), int(center[1])), round(radius * share * scale), color, -1, cv2.LINE_AA, SHIFT
        )


def _tape(surface: Image, item: Clutter, rng: np.random.Generator) -> None:
    length, width = rng.uniform(0.08, 0.3), rng.uniform(0.012, 0.024)
    _fill(surface, item, _rectangle(length, width), item.paint)
    if rng.random() < 0.5:
        _fill(surface, item, _rectangle(length, width)[:, ::-1], item.paint)


FLAT = {"paper": _paper, "note": _note, "stain": _stain, "coin": _coin, "tape": _tape}


def room(seed: int, size: tuple[int, int]) -> Image:
    """What is behind the table, out of focus: a wall, shelves and whatever stands on them, [h, w, 3]."""
    rng = np.random.default_rng(seed + 1)
    small = np.empty((36, 48, 3), np.float32)
    wall, floor = rng.uniform(60, 190, size=3), rng.uniform(30, 120, size=3)
    ramp = np.linspace(0, 1, 36, dtype=np.float32)[:, None, None]
    small[:] = wall * (1 - ramp) + floor * ramp
    for _ in range(int(rng.integers(2, 9))):
        x, y = int(rng.integers(0, 44)), int(rng.integers(0, 14))
        w, h = int(rng.integers(2, 14)), int(rng.integers(2, 12))
        small[y : y + h, x : x + w] = rng.uniform(25, 225, size=3)
    soft = np.clip(cv2.GaussianBlur(small, (0, 0), 1.2), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(soft, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


@lru_cache(maxsize=1)
def noise_tile() -> Image:
    """Sensor noise around 128 with a spread of 25 levels, [1024, 1024, 3]; frames take a window of it."""
    rng = np.random.default_rng(20240607)
    tile = rng.standard_normal((1024, 1024, 3), dtype=np.float32)
    return np.clip(tile * 25 + 128, 0, 255).astype(np.uint8)
