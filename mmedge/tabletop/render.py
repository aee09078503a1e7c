"""Turns a scene into a picture and its truth: room, table, shadows, things from back to front, lens, sensor."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mmedge.tabletop.camera import View
from mmedge.tabletop.props import draw_gripper, draw_prop, prop_outline
from mmedge.tabletop.scene import TABLE_X, TABLE_Y, Body, Clutter, Lens, Scene
from mmedge.tabletop.shapes import BALL_RADIUS, SEGMENTS, footprint, solid
from mmedge.tabletop.solids import (
    SHIFT,
    Shading,
    Silhouette,
    draw_ball,
    draw_mesh,
    draw_ring,
    fixed,
    hull,
    place,
)
from mmedge.tabletop.texture import FLAT, WIDTH, noise_tile, room, table_texture
from mmedge.tabletop.truth import Object, Truth

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
FRONT = np.array([35.0, 45.0, 60.0])


def render(
    scene: Scene, size: tuple[int, int] = (640, 480), *, time: float = 0.0, noise: int = 0, index: int = 0
) -> tuple[Image, Truth]:
    """Picture [height, width, 3] uint8 BGR and truth of `scene` at `time` seconds.

    `size` is (width, height); `noise` chooses the sensor noise of this frame; `index` is copied to `Truth.scene`.
    """
    view = View(scene.sway.at(time), size)
    towards, exposure = scene.light.at(time)
    shading = Shading(towards, np.array(scene.light.tint), scene.light.ambient, exposure)
    image = _background(scene, view, shading)
    _shadows(image, scene, view, shading, time)
    ids = np.zeros((size[1], size[0]), np.uint8)
    for item in scene.clutter:
        if item.kind not in FLAT:
            draw_prop(image, view, shading, item)
    silhouettes = _draw_bodies(image, ids, scene.bodies, view, shading, time)
    if scene.gripper is not None:
        draw_gripper(image, ids, view, shading, scene.gripper, time)
    objects = _objects(scene.bodies, silhouettes, ids, view, time)
    return _sense(image, scene.lens, noise), Truth(objects, size, index, time)


@lru_cache(maxsize=8)
def _surface(kind: str, clutter: tuple[Clutter, ...], seed: int, width: int) -> Image:
    return table_texture(kind, clutter, seed, width)


@lru_cache(maxsize=8)
def _room(seed: int, size: tuple[int, int]) -> Image:
    return room(seed, size)


def _background(scene: Scene, view: View, shading: Shading) -> Image:
    """The room, the table's front edge and its lit surface."""
    image = _room(scene.seed, view.size).copy()
    width = min(max(int(view.size[0] * 1.6), 192), 1536)
    surface = _surface(scene.table, scene.clutter, scene.seed, width)
    scale = width / WIDTH
    to_table = np.array([[1 / scale, 0, TABLE_X[0]], [0, -1 / scale, TABLE_Y[1]], [0, 0, 1]])
    up = np.array([[0.0, 0.0, 1.0]])
    gain = shading.paint((128.0, 128.0, 128.0), up, up[0], 0.0)[0] / 128
    lit = _gain(surface, gain)
    shift = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    homography = shift @ view.ground() @ to_table
    cv2.warpPerspective(
        lit, homography, view.size, dst=image, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
    )
    return image


def _gain(image: Image, gain: Floats) -> Image:
    """Multiply each channel of an image [h, w, 3] by its gain."""
    table = np.clip(np.arange(256)[:, None] * gain, 0, 255).astype(np.uint8).reshape(1, 256, 3)
    return np.asarray(cv2.LUT(image, table))


def _shadows(image: Image, scene: Scene, view: View, shading: Shading, time: float) -> None:
    """Darken the table where blocks and props keep the lamp off, and where they touch it."""
    size = (view.size[0] // 2, view.size[1] // 2)
    cast, contact = np.zeros((size[1], size[0]), np.uint8), np.zeros((size[1], size[0]), np.uint8)
    slope = shading.towards[:2] / shading.towards[2]
    for body in scene.bodies:
        _cast(cast, contact, body, view, slope, time)
    for item in scene.clutter:
        if item.kind not in FLAT:
            pixels, depth = view.project(prop_outline(item) * (1, 1, 0) - 0.006 * np.array([*slope, 0.0]))
            thickness = max(round(0.004 * view.scale / float(depth.mean())), 1)
            cv2.polylines(cast, [fixed(pixels / 2)], False, 200, thickness, cv2.LINE_AA, SHIFT)
    lamp = (1 - shading.ambient) * shading.towards[2]
    depth_of_shadow = 0.95 * lamp / (lamp + shading.ambient)
    soft = cv2.GaussianBlur(cast, (0, 0), max(scene.light.softness * size[0], 0.6))
    near = cv2.GaussianBlur(contact, (0, 0), size[0] * 0.008)
    shade = cv2.addWeighted(soft, depth_of_shadow, near, 0.38, 0.0)
    keep = cv2.resize(cv2.bitwise_not(shade), view.size, interpolation=cv2.INTER_LINEAR)
    cv2.multiply(image, cv2.merge([keep, keep, keep]), dst=image, scale=1 / 255)


def _cast(cast: Image, contact: Image, body: Body, view: View, slope: Floats, time: float) -> None:
    pose = body.at(time)
    if body.shape == "ball":
        angle = np.arange(SEGMENTS) * (2 * np.pi / SEGMENTS)
        disc = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1) * BALL_RADIUS * body.half
        along = np.array([*slope, 0.0])
        stretch = 1 + (np.sqrt(1 + float(slope @ slope)) - 1) * np.cos(angle - np.arctan2(slope[1], slope[0])) ** 2
        flat = disc * stretch[:, None] + np.array([pose[0], pose[1], 0.0]) - along * BALL_RADIUS * body.half
    else:
        flat, _ = place(solid(body.shape), body.half, pose)
        flat = np.column_stack([flat[:, :2] - flat[:, 2:] * slope, np.zeros(len(flat))])
    pixels, _ = view.project(flat)
    cv2.fillConvexPoly(cast, fixed(hull(pixels / 2)), 255, cv2.LINE_AA, SHIFT)
    if body.shape == "ring":
        hole = np.array([pose[0], pose[1], 0.0]) + (flat[:SEGMENTS] + flat[SEGMENTS : 2 * SEGMENTS]) / 2
        hole = 0.9 * (hole - hole.mean(axis=0)) + ((flat[:SEGMENTS] + flat[SEGMENTS : 2 * SEGMENTS]) / 2).mean(axis=0)
        cv2.fillConvexPoly(cast, fixed(hull(view.project(hole)[0] / 2)), 0, cv2.LINE_AA, SHIFT)
    reach = body.half * (footprint(body.shape) * (0.55 if body.shape == "ball" else 0.92))
    angle = np.arange(16) * (2 * np.pi / 16)
    circle = np.stack([pose[0] + reach * np.cos(angle), pose[1] + reach * np.sin(angle), 0 * angle], axis=1)
    value = 120 if body.shape == "ring" else 255
    cv2.fillConvexPoly(contact, fixed(view.project(circle)[0] / 2), value, cv2.LINE_AA, SHIFT)


def _draw_bodies(
    image: Image, ids: Image, bodies: tuple[Body, ...], view: View, shading: Shading, time: float
) -> list[Silhouette]:
    """Paint the blocks from far to near; block i leaves the value i + 1 in `ids`."""
    silhouettes: list[Silhouette] = [Silhouette(np.zeros((3, 2), np.float32))] * len(bodies)
    poses = [body.at(time) for body in bodies]
    distance = [float(np.hypot(pose[0] - view.eye[0], pose[1] - view.eye[1])) for pose in poses]
    for i in sorted(range(len(bodies)), key=lambda i: -distance[i]):
        body = bodies[i]
        if body.shape == "ball":
            silhouettes[i] = draw_ball(image, view, shading, body.half, poses[i], body.paint, body.gloss)
        elif body.shape == "ring":
            silhouettes[i] = draw_ring(image, view, shading, body.half, poses[i], body.paint, body.gloss)
        else:
            mesh = solid(body.shape)
            vertices, normals = place(mesh, body.half, poses[i])
            silhouettes[i] = draw_mesh(image, view, shading, mesh, vertices, normals, body.paint, body.gloss)
        silhouettes[i].stamp(ids, i + 1)
    return silhouettes


def _objects(
    bodies: tuple[Body, ...], silhouettes: list[Silhouette], ids: Image, view: View, time: float
) -> tuple[Object, ...]:
    objects = []
    for i, (body, silhouette) in enumerate(zip(bodies, silhouettes, strict=True)):
        x0, y0 = np.maximum(np.floor(silhouette.outline.min(axis=0)).astype(int) - 1, 0)
        x1, y1 = np.ceil(silhouette.outline.max(axis=0)).astype(int) + 2
        mask = ids[y0 : max(y1, 0), x0 : max(x1, 0)] == i + 1
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        box = (0.0, 0.0, 0.0, 0.0)
        if columns.size:
            box = (float(x0 + columns[0]), float(y0 + rows[0]), float(x0 + columns[-1] + 1), float(y0 + rows[-1] + 1))
        x, y, _ = body.at(time)
        base = view.project(np.array([[x, y, 0.0]]))[0][0]
        visible = min(float(mask.sum()) / silhouette.area(), 1.0)
        objects.append(Object(body.color, body.shape, box, visible, (float(base[0]), float(base[1]))))
    return tuple(objects)


def _sense(image: Image, lens: Lens, noise: int) -> Image:
    """Blur, corner shading and sensor noise."""
    height, width = image.shape[:2]
    if lens.defocus * width > 0.3:
        cv2.GaussianBlur(image, (0, 0), lens.defocus * width, dst=image)
    length = round(lens.motion * width)
    if length > 1:
        kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
        arm = np.array([np.cos(lens.motion_angle), np.sin(lens.motion_angle)]) * length / 2
        start, end = (np.round(length + sign * arm).astype(int) for sign in (-1, 1))
        cv2.line(kernel, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 1.0, 1)
        image = np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), dtype=np.uint8)
    if lens.vignette > 0.02:
        cv2.multiply(image, _vignette((width, height), round(lens.vignette, 2)), dst=image, scale=1 / 255)
    rng = np.random.default_rng(noise)
    tile = noise_tile()
    y, x = (int(rng.integers(0, max(1, tile.shape[0] - side + 1))) for side in (height, width))
    window = tile[y : y + height, x : x + width]
    if window.shape != image.shape:
        window = np.resize(tile, image.shape)
    return np.asarray(cv2.addWeighted(image, 1.0, window, lens.noise / 25, -128 * lens.noise / 25), dtype=np.uint8)


@lru_cache(maxsize=8)
def _vignette(size: tuple[int, int], strength: float) -> Image:
    across, down = np.linspace(-1, 1, size[0])[None, :], np.linspace(-1, 1, size[1])[:, None]
    keep = np.clip(255 * (1 - strength * (across * across + down * down) / 2), 0, 255).astype(np.uint8)
    return np.asarray(cv2.merge([keep, keep, keep]), dtype=np.uint8)
