"""A pinhole camera above the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """`position` and `target` in metres (x right, y away from the robot, z up); `focal` in frame widths."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    roll: float
    focal: float

    def rotation(self) -> Floats:
        """Rows are the camera's right, down and forward axes in table coordinates, [3, 3]."""
        forward = np.subtract(self.target, self.position)
        forward = forward / np.linalg.norm(forward)
        right = np.array([forward[1], -forward[0], 0.0])
        right = right / np.linalg.norm(right)
        down = np.cross(forward, right)
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        return np.stack([cos * right + sin * down, cos * down - sin * right, forward])


class View:
    """A camera together with a frame size: maps points to pixels (the top left pixel's centre is 0.5, 0.5)."""

    def __init__(self, camera: Camera, size: tuple[int, int]) -> None:
        self.size = size
        self.scale = camera.focal * size[0]
        self.eye = np.array(camera.position)
        self.rotation = camera.rotation()
        intrinsics = np.array([[self.scale, 0, size[0] / 2], [0, self.scale, size[1] / 2], [0, 0, 1]])
        self.matrix = intrinsics @ np.column_stack([self.rotation, -self.rotation @ self.eye])

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Points [n, 3] in metres -> pixels [n, 2] and depths [n] in metres."""
        homogeneous = points @ self.matrix[:, :3].T + self.matrix[:, 3]
        depth = np.maximum(homogeneous[:, 2], 1e-3)
        return homogeneous[:, :2] / depth[:, None], depth

    def ground(self) -> Floats:
        """Homography [3, 3] from table coordinates (x, y, 1) in metres to pixels."""
        return np.asarray(self.matrix[:, [0, 1, 3]])
