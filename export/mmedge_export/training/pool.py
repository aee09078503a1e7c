"""A pool of rendered training scenes: pictures at the model's input size and their truth as arrays."""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmedge.tabletop import COLORS, SEEN, SHAPES, Truth, render, sample_scene
from mmedge.tabletop.vocabulary import UNNAMED

OBJECTS = 8
Mode = Literal["r", "r+", "w+"]
COLOR_NAMES = tuple(COLORS)
"""A colour's index in `ROW`; blocks of no named colour have the index after the last."""
UNNAMED_SHARE = 0.3
ROW = np.dtype(
    [
        ("count", np.int64),
        ("color", np.int64, OBJECTS),
        ("shape", np.int64, OBJECTS),
        ("box", np.float32, (OBJECTS, 4)),
        ("visible", np.float32, OBJECTS),
        ("base", np.float32, (OBJECTS, 2)),
    ]
)
"""Truth of one scene; boxes (xyxy) and bases (xy) are shares of the frame's width and height."""


@dataclass(frozen=True)
class Pool:
    """`images` [n, H, W, 3] uint8 RGB and `truth` [n] of dtype `ROW`; both may be memory maps."""

    images: NDArray[np.uint8]
    truth: NDArray[np.void]


def shrink(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """BGR frame of any size -> RGB [height, width, 3] as inference resizes it: Pillow's antialiased bilinear."""
    rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR), dtype=np.uint8)


def to_row(truth: Truth) -> NDArray[np.void]:
    """The truth of one frame as a record of dtype `ROW`."""
    row = np.zeros((), ROW)
    width, height = truth.size
    row["count"] = len(truth.objects)
    for i, thing in enumerate(truth.objects[:OBJECTS]):
        row["color"][i] = (*COLOR_NAMES, UNNAMED).index(thing.color)
        row["shape"][i] = SHAPES.index(thing.shape)
        row["box"][i] = np.array(thing.box) / (width, height, width, height)
        row["base"][i] = np.array(thing.base) / (width, height)
        row["visible"][i] = thing.visible
    return row


def training_scene(seed: int, index: int, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.void]]:
    """Scene `index` of a training pool: picture at `size` (RGB) and truth. Shows no held-out pair.

    Some blocks have paints without a name, so that shapes are learned apart from colours.
    """
    rng = np.random.default_rng([seed, index])
    scene = sample_scene(rng, SEEN, unnamed=UNNAMED_SHARE)
    drawn = (640, 480) if rng.random() < 0.25 else (2 * size[0], 2 * size[1])
    frame, truth = render(scene, drawn, time=float(rng.uniform(0, 8)), noise=int(rng.integers(2**31)))
    return shrink(frame, size), to_row(truth)


def _fill(job: tuple[str, int, int, int, tuple[int, int], int]) -> int:
    folder, seed, first, last, size, count = job
    cv2.setNumThreads(1)
    images = _images(Path(folder), count, size, "r+")
    truth = _truth(Path(folder), count, "r+")
    for index in range(first, last):
        images[index], truth[index] = training_scene(seed, index, size)
    return last - first


def _images(folder: Path, count: int, size: tuple[int, int], mode: Mode) -> NDArray[np.uint8]:
    return np.memmap(folder / "images.raw", np.uint8, mode, shape=(count, size[1], size[0], 3))


def _truth(folder: Path, count: int, mode: Mode) -> NDArray[np.void]:
    return np.memmap(folder / "truth.raw", ROW, mode, shape=(count,))


def build_pool(folder: Path, count: int, seed: int, size: tuple[int, int], workers: int) -> Pool:
    """Render `count` scenes into `folder` with `workers` processes, or open them if they are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    label = {"count": count, "seed": seed, "size": list(size), "row": str(ROW)}
    done = folder / "pool.json"
    if not (done.exists() and json.loads(done.read_text()) == label):
        done.unlink(missing_ok=True)
        _images(folder, count, size, "w+")
        _truth(folder, count, "w+")
        step = 500
        jobs = [(str(folder), seed, i, min(i + step, count), size, count) for i in range(0, count, step)]
        _render(jobs, count, workers)
        done.write_text(json.dumps(label))
    return Pool(_images(folder, count, size, "r"), _truth(folder, count, "r"))


def _render(jobs: list[tuple[str, int, int, int, tuple[int, int], int]], count: int, workers: int) -> None:
    start, ready = time.monotonic(), 0
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        for amount in processes.imap_unordered(_fill, jobs):
            ready += amount
            left = (time.monotonic() - start) / ready * (count - ready)
            print(f"rendering {ready}/{count} scenes, {left:.0f} s left", flush=True)
