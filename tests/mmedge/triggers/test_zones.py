"""Which boxes are in a zone, against OpenCV's answers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmedge.triggers.settings import Zone
from mmedge.triggers.zones import inside

SIZE = (200, 100)
L_SHAPE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.4), (0.4, 0.4), (0.4, 0.9), (0.1, 0.9))


@pytest.mark.parametrize(
    ("anchor", "box", "expected"),
    [
        pytest.param("bottom", (40, 0, 60, 50), True, id="stands-in-it"),
        pytest.param("bottom", (40, 5, 60, 98), False, id="stands-below-it"),
        pytest.param("centre", (40, 5, 60, 98), True, id="centre-in-it"),
        pytest.param("centre", (120, 40, 180, 80), False, id="centre-in-the-notch"),
        pytest.param("overlap", (170, 30, 198, 98), True, id="touches-it"),
        pytest.param("overlap", (100, 50, 180, 90), False, id="in-the-notch"),
        pytest.param("overlap", (0, 0, 200, 100), True, id="around-it"),
        pytest.param("overlap", (30, 20, 34, 24), True, id="within-it"),
        pytest.param("overlap", (30, 20, 30, 24), False, id="empty-box"),
    ],
)
def test_the_anchor_decides(anchor: str, box: tuple[float, ...], expected: bool) -> None:
    zone = Zone("z", L_SHAPE, anchor=anchor)  # type: ignore[arg-type]
    assert inside(zone, np.array([box], np.float32), SIZE).tolist() == [expected]


def test_a_zone_that_reaches_to_the_edge_holds_what_is_cut_off_there() -> None:
    zone = Zone("z", ((0, 0.5), (1, 0.5), (1, 1), (0, 1)))
    boxes = np.array([(0, 20, 0, 100), (100, 20, 200, 100), (180, 10, 200, 40)], np.float32)
    assert inside(zone, boxes, SIZE).tolist() == [True, True, False]


def test_no_boxes_are_no_answer() -> None:
    for anchor in ("bottom", "centre", "overlap"):
        assert inside(Zone("z", L_SHAPE, anchor=anchor), np.zeros((0, 4), np.float32), SIZE).shape == (0,)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_points_and_areas_against_opencv(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.3, 0.7, size=2)
    angles = np.sort(rng.uniform(0, 2 * np.pi, size=int(rng.integers(3, 9))))
    if np.diff([*angles, angles[0] + 2 * np.pi]).max() > 2.8:
        return
    star = centre + rng.uniform(0.05, 0.3, size=(len(angles), 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    corners = rng.uniform(0, 1, size=(30, 2, 2)) * SIZE
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    points = tuple((float(x), float(y)) for x, y in star)
    contour = (star * SIZE).astype(np.float32)
    signed = [cv2.pointPolygonTest(contour, ((b[0] + b[2]) / 2, float(b[3])), True) for b in boxes.astype(np.float64)]
    found = inside(Zone("z", points), boxes, SIZE)
    assert all(got == (distance > 0) for got, distance in zip(found, signed, strict=True) if abs(distance) > 1e-3)

    hull = cv2.convexHull(contour)[:, 0]
    convex = Zone("z", tuple((float(x), float(y)) for x, y in hull / SIZE), anchor="overlap")
    for box, got in zip(boxes, inside(convex, boxes, SIZE), strict=True):
        x0, y0, x1, y1 = box
        square = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)
        area, _ = cv2.intersectConvexConvex(hull, square)
        if not 0 < area < 1:
            assert got == (area >= 1)
