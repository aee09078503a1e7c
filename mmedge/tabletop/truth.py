"""What a frame really shows."""

from __future__ import annotations

from dataclasses import dataclass

VISIBLE = 0.35
"""Share of an object that must be in view, not hidden, for it to count as a target."""

RELATION_MARGIN = 0.03
"""Distance, as a share of the frame's width (left, right) or height (front, behind), under which no relation holds."""


@dataclass(frozen=True)
class Object:
    """One object on the table.

    `box`: tight xyxy box of the visible pixels, in pixels; zeros when nothing is visible.
    `visible`: share of its silhouette that is inside the frame and not hidden, 0..1.
    `base`: the point where it stands on the table, projected to pixels (x, y).
    """

    color: str
    shape: str
    box: tuple[float, float, float, float]
    visible: float
    base: tuple[float, float]

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Truth:
    """Ground truth of one frame; `size` is (width, height) in pixels, `time` seconds since the scene began."""

    objects: tuple[Object, ...]
    size: tuple[int, int]
    scene: int = 0
    time: float = 0.0

    def offset(self, relation: str, index: int, anchor: int) -> float:
        """How far object `index` stands on the named side of object `anchor`.

        A share of the frame's width or height; negative on the other side. Sides are the picture's, as the camera
        sees it, measured between the points where the objects stand: in front of = lower in the picture.
        """
        a, b = self.objects[index].base, self.objects[anchor].base
        right, front = (a[0] - b[0]) / self.size[0], (a[1] - b[1]) / self.size[1]
        return {"left of": -right, "right of": right, "in front of": front, "behind": -front}[relation]

    def holds(self, relation: str, index: int, anchor: int) -> bool:
        """Whether object `index` is clearly on the named side of object `anchor`."""
        return self.offset(relation, index, anchor) > RELATION_MARGIN
