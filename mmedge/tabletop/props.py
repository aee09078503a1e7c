"""What stands up from the table but is no block: pens, tools, cables, books, and the robot's gripper."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from mmedge.tabletop.camera import View
from mmedge.tabletop.scene import Clutter, Gripper
from mmedge.tabletop.shapes import cuboid
from mmedge.tabletop.solids import SHIFT, Shading, Silhouette, draw_mesh, fixed, hull, place

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
UP = np.array([[0.0, 0.0, 1.0]])


def prop_outline(item: Clutter) -> Floats:
    """The item's outline as points [n, 3]: the centre line of thin things, the corners of a book."""
    rng = np.random.default_rng(item.seed)
    cos, sin = np.cos(item.yaw), np.sin(item.yaw)
    if item.kind == "cable":
        steps = np.linspace(0, 1, 28)
        bend = rng.uniform(-0.09, 0.09, size=3)
        along, aside = (
            (steps - 0.5) * rng.uniform(0.25, 0.7),
            sum(amount * np.sin((k + 1) * np.pi * steps + k) for k, amount in enumerate(bend)),
        )
    else:
        reach = {"pen": 0.07, "screwdriver": 0.09, "book": 0.08}[item.kind]
        along, aside = np.array([-reach, -0.1 * reach, reach]), np.zeros(3)
    x, y = item.position[0] + cos * along - sin * aside, item.position[1] + sin * along + cos * aside
    return np.stack([x, y, np.full(len(x), 0.004)], axis=1)


def draw_prop(image: Image, view: View, shading: Shading, item: Clutter) -> None:
    """Draw one upright item."""
    if item.kind == "book":
        rng = np.random.default_rng(item.seed)
        mesh = cuboid(0.12, 0.16, 0.012)
        vertices, normals = place(mesh, float(rng.uniform(0.7, 1.1)), (*item.position, item.yaw))
        draw_mesh(image, view, shading, mesh, vertices, normals, item.paint, 0.1)
        return
    line = prop_outline(item)
    if item.kind == "screwdriver":
        _rod(image, view, shading, line[1:], 0.0028, (165, 165, 168))
        _rod(image, view, shading, line[:2], 0.0095, item.paint)
    else:
        _rod(image, view, shading, line, 0.0035 if item.kind == "pen" else 0.0026, item.paint)


def _rod(image: Image, view: View, shading: Shading, line: Floats, radius: float, paint: tuple[float, ...]) -> None:
    """A round rod along a line: a dark body with a lighter ridge."""
    pixels, depth = view.project(line)
    color = shading.paint(paint, UP, UP[0], 0.0)[0]
    width = 2 * radius * view.scale / float(depth.mean())
    for share, gain in ((1.0, 0.62), (0.62, 0.95), (0.22, 1.25)):
        thickness = max(round(width * share), 1)
        tone = tuple(np.minimum(color * gain, 255).tolist())
        cv2.polylines(image, [fixed(pixels)], False, tone, thickness, cv2.LINE_AA, SHIFT)


def draw_gripper(image: Image, ids: Image, view: View, shading: Shading, hand: Gripper, time: float) -> None:
    """Draw the robot's hand over everything and clear the ids that it hides."""
    swing = np.sin(hand.rate * time + hand.phase)
    x, y, z = hand.position[0] + 0.05 * swing, hand.position[1] + 0.03 * swing, hand.position[2] + 0.015 * swing
    opening = 0.040 + 0.018 * np.sin(2 * hand.rate * time)
    cos, sin = np.cos(hand.yaw), np.sin(hand.yaw)
    dark = tuple(0.35 * value for value in hand.paint)
    parts = [
        (cuboid(0.014, 0.024, 0.07), (x - cos * opening, y - sin * opening), z, dark),
        (cuboid(0.014, 0.024, 0.07), (x + cos * opening, y + sin * opening), z, dark),
        (cuboid(0.13, 0.036, 0.03), (x, y), z + 0.07, hand.paint),
    ]
    for mesh, (px, py), lift, paint in parts:
        vertices, normals = place(mesh, 1.0, (px, py, hand.yaw), lift)
        draw_mesh(image, view, shading, mesh, vertices, normals, paint, 0.3).stamp(ids, 0)
    wrist, (depth,) = view.project(np.array([[x, y, z + 0.09]]))
    _arm(image, ids, wrist[0], 0.021 * view.scale / float(depth), shading, hand)


def _arm(image: Image, ids: Image, wrist: Floats, reach: float, shading: Shading, hand: Gripper) -> None:
    """A tapered tube from the wrist to the lower edge of the frame, where the robot stands."""
    height, width = image.shape[:2]
    end = np.array([0.55 * wrist[0] + 0.45 * width / 2, 1.12 * height])
    along = (end - wrist) / max(float(np.linalg.norm(end - wrist)), 1.0)
    side = np.array([-along[1], along[0]])
    color = shading.paint(hand.paint, UP, UP[0], 0.1)[0]
    strips = np.linspace(-1, 1, 13)
    for left, right in pairwise(strips):
        tone = tuple(
            np.minimum(color * (0.45 + 0.75 * np.sqrt(1 - 0.98 * ((left + right) / 2 - 0.25) ** 2 / 1.6)), 255)
        )
        # Each strip reaches to the far side, so that the next one paints over its seam.
        quad = [
            wrist + side * reach * left,
            wrist + side * reach,
            end + side * reach * 1.9,
            end + side * reach * 1.9 * left,
        ]
        cv2.fillConvexPoly(image, fixed(np.array(quad)), tuple(float(v) for v in tone), cv2.LINE_AA, SHIFT)
    outline = np.array([wrist + side * reach, wrist - side * reach, end - 1.9 * side * reach, end + 1.9 * side * reach])
    Silhouette(hull(outline)).stamp(ids, 0)
