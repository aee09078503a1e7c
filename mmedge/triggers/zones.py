"""Which boxes are in a zone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmedge.results import Floats
from mmedge.triggers.settings import Zone

Bools = npt.NDArray[np.bool_]
_Point = tuple[float, float]


def inside(zone: Zone, boxes: Floats, size: tuple[int, int]) -> Bools:
    """Whether the zone's anchor of each box lies in the zone, bool [k].

    Args:
        boxes: float32 [k, 4], xyxy in pixels.
        size: Width and height of the frame in pixels.
    """
    scaled = boxes.astype(np.float64) / np.array([*size, *size])
    if zone.anchor == "overlap":
        found = [_overlaps(zone.points, tuple(box)) for box in scaled.tolist()]
        return np.array(found, np.bool_)
    x = (scaled[:, 0] + scaled[:, 2]) / 2
    y = scaled[:, 3] if zone.anchor == "bottom" else (scaled[:, 1] + scaled[:, 3]) / 2
    return _contains(zone.points, x, y)


def _contains(points: tuple[_Point, ...], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Bools:
    """Even-odd rule: a ray to the right of the point crosses the edges an odd number of times."""
    odd = np.zeros(x.shape, np.bool_)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        crossed = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            odd ^= crossed & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    # A box at the edge of the picture is clipped there, and a zone that reaches to the edge means it.
    return odd | _on_edge(points, x, y)


def _on_edge(points: tuple[_Point, ...], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Bools:
    near = np.zeros(x.shape, np.bool_)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
        near |= np.hypot(x - x0 - along * dx, y - y0 - along * dy) < 1e-6
    return near


def _overlaps(points: tuple[_Point, ...], box: tuple[float, ...]) -> bool:
    """Whether polygon and box share an area: the polygon clipped by the box, side by side, keeps one.

    The algorithm of Sutherland and Hodgman, "Reentrant polygon clipping", CACM 17(1), 1974.
    """
    x0, y0, x1, y1 = box
    clipped = list(points)
    for axis, limit, sign in ((0, x0, 1.0), (0, x1, -1.0), (1, y0, 1.0), (1, y1, -1.0)):
        clipped = _clip(clipped, axis, limit, sign)
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(clipped, clipped[1:] + clipped[:1], strict=True))
    return abs(area) > 1e-12


def _clip(points: list[_Point], axis: int, limit: float, sign: float) -> list[_Point]:
    kept: list[_Point] = []
    for a, b in zip(points, points[1:] + points[:1], strict=True):
        before, after = sign * (a[axis] - limit), sign * (b[axis] - limit)
        if before >= 0:
            kept.append(a)
        if before * after < 0:
            share = before / (before - after)
            kept.append((a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])))
    return kept
