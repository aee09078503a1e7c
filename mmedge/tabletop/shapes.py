"""Solids as facets: vertices, faces and normals in metres, standing on z = 0 around the origin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SEGMENTS = 40
RING_HOLE = 0.56


@dataclass(frozen=True)
class Mesh:
    """`faces` index `vertices` [v, 3]; `normals` [f, 3]; `flat` faces get their edges drawn."""

    vertices: Floats
    faces: tuple[tuple[int, ...], ...]
    normals: Floats
    flat: bool


def _circle(radius: float, z: float) -> Floats:
    angle = np.arange(SEGMENTS) * (2 * np.pi / SEGMENTS)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(SEGMENTS, z)], axis=1)


def _normals(vertices: Floats, faces: tuple[tuple[int, ...], ...]) -> Floats:
    corners = np.array([face[:3] for face in faces])
    a, b, c = vertices[corners[:, 0]], vertices[corners[:, 1]], vertices[corners[:, 2]]
    normals = np.cross(b - a, c - a)
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))


def _wall(lower: int, upper: int, outward: bool) -> tuple[tuple[int, ...], ...]:
    faces = []
    for i in range(SEGMENTS):
        j = (i + 1) % SEGMENTS
        face = (lower + i, lower + j, upper + j, upper + i)
        faces.append(face if outward else face[::-1])
    return tuple(faces)


@lru_cache(maxsize=64)
def cuboid(width: float, depth: float, height: float) -> Mesh:
    """A box of the given outer sizes."""
    x, y = width / 2, depth / 2
    vertices = np.array([[sx * x, sy * y, z] for z in (0.0, height) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    faces = ((0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7), (3, 2, 1, 0))
    return Mesh(vertices, faces, _normals(vertices, faces), flat=True)


def _cylinder(radius: float, height: float) -> Mesh:
    vertices = np.concatenate([_circle(radius, 0.0), _circle(radius, height)])
    faces = (*_wall(0, SEGMENTS, outward=True), tuple(range(SEGMENTS, 2 * SEGMENTS)))
    return Mesh(vertices, faces, _normals(vertices, faces), flat=False)


def _cone(radius: float, height: float) -> Mesh:
    vertices = np.concatenate([_circle(radius, 0.0), [[0.0, 0.0, height]]])
    faces = tuple((i, (i + 1) % SEGMENTS, SEGMENTS) for i in range(SEGMENTS))
    return Mesh(vertices, faces, _normals(vertices, faces), flat=False)


def _pyramid(half: float, height: float) -> Mesh:
    base = [[-half, -half, 0.0], [half, -half, 0.0], [half, half, 0.0], [-half, half, 0.0]]
    vertices = np.array([*base, [0.0, 0.0, height]])
    faces = ((0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4))
    return Mesh(vertices, faces, _normals(vertices, faces), flat=True)


def _ring(outer: float, height: float) -> Mesh:
    """Inner wall first, outer wall last; the flat top between them is drawn by the renderer, which knows the hole."""
    inner = outer * RING_HOLE
    circles = [_circle(inner, 0.0), _circle(inner, height), _circle(outer, 0.0), _circle(outer, height)]
    vertices = np.concatenate(circles)
    walls = _wall(0, SEGMENTS, outward=False) + _wall(2 * SEGMENTS, 3 * SEGMENTS, outward=True)
    return Mesh(vertices, walls, _normals(vertices, walls), flat=False)


@lru_cache(maxsize=16)
def solid(shape: str) -> Mesh:
    """The mesh of a shape of half width near 1. A ball has none: it is shaded pixel by pixel."""
    builders = {
        "cube": lambda: cuboid(2.0, 2.0, 2.0),
        "cylinder": lambda: _cylinder(0.9, 2.5),
        "cone": lambda: _cone(1.15, 2.6),
        "pyramid": lambda: _pyramid(1.15, 2.1),
        "ring": lambda: _ring(1.35, 0.75),
    }
    return builders[shape]()


BALL_RADIUS = 1.15


def footprint(shape: str) -> float:
    """Radius, in half widths, of the circle on the table that holds the shape at any turn."""
    return {"cube": 1.42, "ball": BALL_RADIUS, "cylinder": 0.9, "cone": 1.15, "pyramid": 1.63, "ring": 1.35}[shape]
