"""Scenes: what lies on the table, how it moves, and under which light the camera sees it. All lengths in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmedge.tabletop.camera import Camera

TABLE_KINDS = ("wood", "cloth", "checker", "plain", "stone", "mat")
CLUTTER_KINDS = ("paper", "note", "stain", "coin", "tape", "pen", "screwdriver", "cable", "book")
TABLE_X = (-0.85, 0.85)
TABLE_Y = (-0.60, 0.50)


@dataclass(frozen=True)
class Body:
    """A block: where it stands, how it slides (amplitude, angular speed, phase) and how fast it turns."""

    color: str
    shape: str
    paint: tuple[float, float, float]
    half: float
    position: tuple[float, float]
    yaw: float
    slide: tuple[float, float]
    slide_rate: float
    slide_phase: float
    turn_rate: float
    gloss: float

    def at(self, time: float) -> tuple[float, float, float]:
        """x, y and yaw at `time` seconds."""
        swing = np.sin(self.slide_rate * time + self.slide_phase)
        x, y = self.position[0] + self.slide[0] * swing, self.position[1] + self.slide[1] * swing
        return float(x), float(y), self.yaw + self.turn_rate * time


@dataclass(frozen=True)
class Clutter:
    """Something on the table that is no block; `seed` fixes its details."""

    kind: str
    position: tuple[float, float]
    yaw: float
    paint: tuple[float, float, float]
    seed: int


@dataclass(frozen=True)
class Light:
    """One lamp and the room around it. `drift` moves the lamp, `flicker` its strength, both slowly."""

    azimuth: float
    elevation: float
    tint: tuple[float, float, float]
    ambient: float
    exposure: float
    softness: float
    drift: float
    flicker: float
    rate: float
    phase: float

    def at(self, time: float) -> tuple[np.ndarray, float]:
        """Unit vector towards the lamp [3] and the exposure at `time` seconds."""
        swing = np.sin(self.rate * time + self.phase)
        azimuth, cos = self.azimuth + self.drift * swing, np.cos(self.elevation)
        towards = np.array([cos * np.cos(azimuth), cos * np.sin(azimuth), np.sin(self.elevation)])
        return towards, float(self.exposure * (1 + self.flicker * np.sin(1.7 * self.rate * time + self.phase)))


@dataclass(frozen=True)
class Sway:
    """A camera that is never quite still; amplitudes in metres, rates in radians a second."""

    camera: Camera
    amplitude: tuple[float, float, float]
    rates: tuple[float, float, float]
    phase: float

    def at(self, time: float) -> Camera:
        moved = np.array(self.amplitude) * np.sin(np.array(self.rates) * time + self.phase)
        x, y, z = (float(value) for value in np.array(self.camera.position) + moved)
        tx, ty, tz = self.camera.target
        target = (tx + 0.4 * float(moved[0]), ty, tz)
        return Camera((x, y, z), target, self.camera.roll + 0.3 * float(moved[0]), self.camera.focal)


@dataclass(frozen=True)
class Lens:
    """Defocus and motion blur as a share of the frame's width, noise in grey levels, corner shading 0..1."""

    defocus: float
    motion: float
    motion_angle: float
    noise: float
    vignette: float


@dataclass(frozen=True)
class Gripper:
    """The robot's own hand: hovers over the table near `position` and opens and closes."""

    position: tuple[float, float, float]
    yaw: float
    paint: tuple[float, float, float]
    rate: float
    phase: float


@dataclass(frozen=True)
class Scene:
    """Everything that `render` needs; `seed` fixes the table's grain and the room behind it."""

    bodies: tuple[Body, ...]
    clutter: tuple[Clutter, ...]
    table: str
    light: Light
    sway: Sway
    lens: Lens
    gripper: Gripper | None
    seed: int
