"""Draws solids with Lambert and Blinn shading: facets by OpenCV's antialiased polygons, balls pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mmedge.tabletop.camera import View
from mmedge.tabletop.shapes import BALL_RADIUS, SEGMENTS, Mesh, solid

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
SHIFT = 4


@dataclass(frozen=True)
class Shading:
    """The light of one moment: unit vector to the lamp, its tint (BGR gains), the room's share, the exposure."""

    towards: Floats
    tint: Floats
    ambient: float
    exposure: float

    def paint(self, paint: Sequence[float], normals: Floats, towards_eye: Floats, gloss: float) -> Floats:
        """BGR colours [n, 3] of surfaces with the given unit normals [n, 3]."""
        lambert = np.maximum(normals @ self.towards, 0.0)
        half = self.towards + towards_eye
        half = half / np.linalg.norm(half)
        shine = gloss * np.maximum(normals @ half, 0.0) ** 24
        sky = 0.85 + 0.15 * normals[:, 2]
        strength = self.exposure * (self.ambient * sky + 1.05 * (1 - self.ambient) * lambert)
        color = strength[:, None] * np.asarray(paint) * self.tint + (150 * self.exposure * shine)[:, None]
        return np.asarray(np.minimum(color, 255.0))


@dataclass(frozen=True)
class Silhouette:
    """Outline of what was drawn, in pixels, and the hole through it if there is one."""

    outline: NDArray[np.float32]
    hole: NDArray[np.float32] | None = None

    def area(self) -> float:
        hole = 0.0 if self.hole is None else cv2.contourArea(self.hole)
        return max(cv2.contourArea(self.outline) - hole, 1.0)

    def stamp(self, ids: Image, value: int) -> None:
        """Write `value` into the covered pixels of `ids` [h, w]."""
        height, width = ids.shape
        x0, y0 = np.maximum(np.floor(self.outline.min(axis=0)).astype(int) - 1, 0)
        x1, y1 = np.minimum(np.ceil(self.outline.max(axis=0)).astype(int) + 2, (width, height))
        if x1 <= x0 or y1 <= y0:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        corner = np.array([x0, y0], np.float32)
        cv2.fillPoly(mask, [fixed(self.outline - corner)], 1, shift=SHIFT)
        if self.hole is not None:
            cv2.fillPoly(mask, [fixed(self.hole - corner)], 0, shift=SHIFT)
        ids[y0:y1, x0:x1][mask > 0] = value


def fixed(pixels: NDArray[np.floating]) -> NDArray[np.int32]:
    """Pixels (centre of the first one at 0.5, 0.5) -> OpenCV's fixed-point drawing coordinates."""
    return np.round((pixels - 0.5) * (1 << SHIFT)).astype(np.int32)


def place(mesh: Mesh, half: float, pose: tuple[float, float, float], lift: float = 0.0) -> tuple[Floats, Floats]:
    """Vertices and normals of a mesh scaled by `half`, turned and moved to `pose` (x, y, yaw)."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return mesh.vertices @ turn * half + np.array([pose[0], pose[1], lift]), mesh.normals @ turn


def hull(pixels: Floats) -> NDArray[np.float32]:
    """Convex hull [k, 2] of points [n, 2]."""
    return np.asarray(cv2.convexHull(pixels.astype(np.float32)).reshape(-1, 2), dtype=np.float32)


def draw_mesh(
    image: Image, view: View, shading: Shading, mesh: Mesh, vertices: Floats, normals: Floats,
    paint: Sequence[float], gloss: float,
) -> Silhouette:  # fmt: skip
    """Draw a convex mesh given in table coordinates; returns its silhouette."""
    pixels, _ = view.project(vertices)
    silhouette = Silhouette(hull(pixels))
    _facets(image, view, shading, mesh, vertices, normals, pixels, paint, gloss, [silhouette.outline])
    return silhouette


def _facets(
    image: Image, view: View, shading: Shading, mesh: Mesh, vertices: Floats, normals: Floats, pixels: Floats,
    paint: Sequence[float], gloss: float, base: list[NDArray[np.float32]],
) -> None:  # fmt: skip
    first = vertices[[face[0] for face in mesh.faces]]
    seen = np.einsum("ij,ij->i", normals, view.eye - first) > 0
    towards_eye = view.eye - vertices.mean(axis=0)
    colors = shading.paint(paint, normals, towards_eye / np.linalg.norm(towards_eye), gloss)
    visible = np.flatnonzero(seen)
    if visible.size == 0:
        return
    # The base coat keeps the table from shining through the seams between antialiased facets.
    coat = tuple(colors[visible].mean(axis=0).tolist())
    cv2.fillPoly(image, [fixed(part) for part in base], coat, lineType=cv2.LINE_AA, shift=SHIFT)
    corners = fixed(pixels)
    for index in visible:
        face, color = corners[list(mesh.faces[index])], tuple(colors[index].tolist())
        cv2.fillConvexPoly(image, face, color, cv2.LINE_AA, SHIFT)
        if mesh.flat:
            edge = tuple(np.minimum(colors[index] * 1.12 + 6, 255).tolist())
            cv2.polylines(image, [face], True, edge, 1, cv2.LINE_AA, SHIFT)


def draw_ring(
    image: Image, view: View, shading: Shading, half: float, pose: tuple[float, float, float],
    paint: Sequence[float], gloss: float,
) -> Silhouette:  # fmt: skip
    """Draw a flat ring; the table stays visible through its hole."""
    mesh = solid("ring")
    vertices, normals = place(mesh, half, pose)
    pixels, _ = view.project(vertices)
    inner_low, inner_top, _, outer_top = (pixels[i * SEGMENTS : (i + 1) * SEGMENTS] for i in range(4))
    _, hole = cv2.intersectConvexConvex(hull(inner_low), hull(inner_top))
    gap = None if hole is None or len(hole) < 3 else np.asarray(hole, np.float32).reshape(-1, 2)
    silhouette = Silhouette(hull(pixels), gap)
    base = [silhouette.outline] if gap is None else [silhouette.outline, gap]
    _facets(image, view, shading, mesh, vertices, normals, pixels, paint, gloss, base)
    towards_eye = view.eye - vertices.mean(axis=0)
    up = np.array([[0.0, 0.0, 1.0]])
    top = shading.paint(paint, up, towards_eye / np.linalg.norm(towards_eye), gloss)[0]
    rims = [fixed(outer_top), fixed(inner_top)]
    cv2.fillPoly(image, rims, tuple(top.tolist()), lineType=cv2.LINE_AA, shift=SHIFT)
    return silhouette


def draw_ball(
    image: Image, view: View, shading: Shading, half: float, pose: tuple[float, float, float],
    paint: Sequence[float], gloss: float,
) -> Silhouette:  # fmt: skip
    """Draw a ball on the table as the disc that it covers."""
    radius = half * BALL_RADIUS
    center = np.array([[pose[0], pose[1], radius]])
    (pixel,), (depth,) = view.project(center)
    reach = view.scale * radius / np.sqrt(depth * depth - radius * radius)
    angle = np.arange(SEGMENTS) * (2 * np.pi / SEGMENTS)
    circle = pixel + reach * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    height, width = image.shape[:2]
    x0, y0 = np.maximum(np.floor(pixel - reach - 1).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(pixel + reach + 1).astype(int), (width, height))
    if x1 > x0 and y1 > y0:
        across = (np.arange(x0, x1) + 0.5 - pixel[0])[None, :] / reach
        down = (np.arange(y0, y1) + 0.5 - pixel[1])[:, None] / reach
        square = across * across + down * down
        facing = -np.sqrt(np.maximum(1 - square, 0.0))
        axes = np.broadcast_arrays(across, down, facing)
        normals = np.stack(axes, axis=-1).reshape(-1, 3) @ view.rotation
        towards_eye = (view.eye - center[0]) / np.linalg.norm(view.eye - center[0])
        colors = shading.paint(paint, normals, towards_eye, gloss).reshape(*square.shape, 3)
        cover = np.clip((1 - np.sqrt(square)) * reach + 0.5, 0.0, 1.0)[:, :, None]
        patch = image[y0:y1, x0:x1]
        patch[:] = (patch + (colors - patch) * cover).astype(np.uint8)
    return Silhouette(circle.astype(np.float32))
