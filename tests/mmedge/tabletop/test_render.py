"""The camera is repeatable and its truth is what it drew."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mmedge.errors import InputError
from mmedge.tabletop import HELD_OUT, PAIRS, SEEN, VISIBLE, Tabletop, render, sample_scene
from mmedge.tabletop.scene import Scene
from mmedge.tabletop.vocabulary import UNNAMED


def scene(seed: int) -> Scene:
    return sample_scene(np.random.default_rng(seed))


@pytest.mark.parametrize("size", [(640, 480), (161, 99), (63, 501)], ids=str)
def test_frames_have_the_asked_size(size: tuple[int, int]) -> None:
    frame, truth = Tabletop(seed=1, size=size).frame(0)
    assert frame.shape == (size[1], size[0], 3)
    assert frame.dtype == np.uint8
    assert truth.size == size


def test_frames_are_the_same_in_any_order() -> None:
    forward, backward = Tabletop(seed=5, size=(160, 120), fps=3.0), Tabletop(seed=5, size=(160, 120), fps=3.0)
    indices = [0, 1, 23, 24, 50, 200]
    first = {i: forward.frame(i) for i in indices}
    for i in reversed(indices):
        frame, truth = backward.frame(i)
        assert np.array_equal(frame, first[i][0])
        assert truth == first[i][1]


def test_frames_equal_iteration() -> None:
    camera = Tabletop(seed=2, size=(96, 72))
    for index, (frame, truth) in zip(range(4), camera, strict=False):
        expected, expected_truth = camera.frame(index)
        assert np.array_equal(frame, expected)
        assert truth == expected_truth


def test_seeds_give_different_scenes() -> None:
    assert Tabletop(seed=0).frame(0)[1] != Tabletop(seed=1).frame(0)[1]


def test_a_scene_moves_and_then_changes() -> None:
    camera = Tabletop(seed=3, size=(160, 120), fps=10.0, scene_seconds=2.0)
    start, later, other = (camera.frame(i)[1] for i in (0, 19, 20))
    assert [thing.name for thing in start.objects] == [thing.name for thing in later.objects]
    assert start.objects != later.objects
    assert (start.scene, later.scene, other.scene) == (0, 0, 1)


@pytest.mark.parametrize("seed", range(8))
def test_boxes_hold_the_drawn_pixels(seed: int) -> None:
    """Take an object off the table: what changes beyond its shadow lies in its box, and reaches the box's edges."""
    full = dataclasses.replace(scene(seed), gripper=None)
    lens = dataclasses.replace(full.lens, defocus=0.0, motion=0.0, noise=0.0, vignette=0.0)
    light = dataclasses.replace(full.light, ambient=1.0)
    full = dataclasses.replace(full, lens=lens, light=light, bodies=full.bodies[:1], clutter=())
    frame, truth = render(full, (320, 240))
    empty, _ = render(dataclasses.replace(full, bodies=()), (320, 240))
    changed = np.abs(frame.astype(int) - empty).max(axis=2) > 70
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    x0, y0, x1, y1 = truth.objects[0].box
    if columns.size:
        assert x0 - 1.5 <= columns[0]
        assert y0 - 1.5 <= rows[0]
        assert columns[-1] + 1 <= x1 + 1.5
        assert rows[-1] + 1 <= y1 + 1.5
    assert truth.objects[0].visible > 0.9


@pytest.mark.parametrize("shape", ["cube", "ball", "cylinder", "cone", "pyramid", "ring"])
def test_a_box_is_tight(shape: str) -> None:
    """Alone in strong contrast, the box of the changed pixels is the object's box."""
    base = scene(11)
    body = dataclasses.replace(
        base.bodies[0], shape=shape, color="white", paint=(250.0, 250.0, 250.0), position=(0.0, 0.0), gloss=0.0
    )
    lens = dataclasses.replace(base.lens, defocus=0.0, motion=0.0, noise=0.0, vignette=0.0)
    light = dataclasses.replace(base.light, ambient=1.0, exposure=1.0)
    alone = dataclasses.replace(base, bodies=(body,), clutter=(), gripper=None, table="plain", lens=lens, light=light)
    frame, truth = render(alone, (320, 240))
    empty, _ = render(dataclasses.replace(alone, bodies=()), (320, 240))
    brighter = (frame.astype(int) - empty).max(axis=2) > 12
    rows, columns = np.flatnonzero(brighter.any(axis=1)), np.flatnonzero(brighter.any(axis=0))
    drawn = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert np.allclose(truth.objects[0].box, drawn, atol=2.5)


def test_hidden_objects_are_less_visible() -> None:
    base = scene(4)
    front = dataclasses.replace(base.bodies[0], position=(0.0, -0.06), slide=(0.0, 0.0), half=0.045, shape="cube")
    back = dataclasses.replace(base.bodies[1], position=(0.0, 0.06), slide=(0.0, 0.0), half=0.02, shape="ball")
    sway = dataclasses.replace(base.sway, amplitude=(0.0, 0.0, 0.0))
    sway = dataclasses.replace(sway, camera=dataclasses.replace(sway.camera, position=(0.0, -0.7, 0.25)))
    both = dataclasses.replace(base, bodies=(front, back), clutter=(), gripper=None, sway=sway)
    truth = render(both, (320, 240))[1]
    assert truth.objects[0].visible > 0.95
    assert truth.objects[1].visible < VISIBLE


def test_boxes_stay_inside_the_frame() -> None:
    for seed in range(20):
        for thing in render(scene(seed), (96, 72))[1].objects:
            assert 0 <= thing.visible <= 1
            assert 0 <= thing.box[0] <= thing.box[2] <= 96
            assert 0 <= thing.box[1] <= thing.box[3] <= 72


def test_pairs_limit_what_appears() -> None:
    camera = Tabletop(seed=0, size=(64, 48), fps=1.0, pairs=SEEN, scene_seconds=1.0)
    for index in range(40):
        assert all((thing.color, thing.shape) in SEEN for thing in camera.frame(index)[1].objects)


def test_include_puts_pairs_on_the_table() -> None:
    wanted = [("purple", "ball"), ("yellow", "cube")]
    for seed in range(10):
        bodies = sample_scene(np.random.default_rng(seed), SEEN, include=wanted).bodies
        assert [(body.color, body.shape) for body in bodies[:2]] == wanted


def test_unnamed_paints_have_no_color_word() -> None:
    bodies = sample_scene(np.random.default_rng(3), SEEN, include=[("red", "cube")], unnamed=1.0).bodies
    assert bodies[0].color == "red"
    assert {body.color for body in bodies[1:]} == {UNNAMED}


def test_blocks_never_touch() -> None:
    for seed in range(20):
        bodies = scene(seed).bodies
        for time in (0.0, 1.7, 5.2):
            places = np.array([body.at(time)[:2] for body in bodies])
            gaps = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(len(places))
            assert gaps.min() > 0.05


def test_held_out_covers_colors_once_and_shapes_twice() -> None:
    colors, shapes = [color for color, _ in HELD_OUT], [shape for _, shape in HELD_OUT]
    assert len(HELD_OUT) >= 8
    assert set(PAIRS) == set(SEEN) | HELD_OUT
    assert max(map(colors.count, colors)) == 1
    assert max(map(shapes.count, shapes)) <= 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": -1},
        {"size": (16, 480)},
        {"fps": 0.0},
        {"scene_seconds": -1.0},
        {"pairs": []},
        {"pairs": [("pink", "cube")]},
    ],
    ids=lambda value: "-".join(value),
)
def test_bad_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Tabletop(**arguments)  # type: ignore[arg-type]


def test_a_negative_frame_is_refused() -> None:
    with pytest.raises(InputError, match="0 or more"):
        Tabletop().frame(-1)
