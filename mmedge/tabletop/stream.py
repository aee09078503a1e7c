"""The synthetic camera: an endless, repeatable stream of table scenes with their truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mmedge.errors import InputError
from mmedge.tabletop.render import render
from mmedge.tabletop.sampling import sample_scene
from mmedge.tabletop.scene import Scene
from mmedge.tabletop.truth import Truth
from mmedge.tabletop.vocabulary import PAIRS


class Tabletop:
    """A camera of a robot's table. Frame `i` depends on the arguments and on `i` alone.

    Args:
        seed: chooses the scenes.
        size: width and height of the frames in pixels, at least 32 x 24.
        fps: frames a second; sets how far things move between frames.
        pairs: the (colour, shape) pairs that may appear; None allows all 48.
        scene_seconds: a new scene begins this often.

    Raises:
        InputError: an argument is out of range or names an unknown pair.
    """

    def __init__(
        self,
        seed: int = 0,
        size: tuple[int, int] = (640, 480),
        fps: float = 30.0,
        pairs: Sequence[tuple[str, str]] | None = None,
        scene_seconds: float = 8.0,
    ) -> None:
        if seed < 0:
            raise InputError(f"seed must be 0 or more, got {seed}")
        if size[0] < 32 or size[1] < 24:
            raise InputError(f"size must be at least 32 x 24 pixels (width, height), got {size[0]} x {size[1]}")
        if not fps > 0 or not scene_seconds > 0:
            raise InputError(f"fps and scene_seconds must be above 0, got {fps} and {scene_seconds}")
        unknown = [pair for pair in pairs or () if tuple(pair) not in PAIRS]
        if unknown or (pairs is not None and len(pairs) == 0):
            raise InputError(f"pairs must be a non-empty list of (colour, shape) of the vocabulary, got {pairs}")
        self.seed, self.size, self.fps = seed, (int(size[0]), int(size[1])), float(fps)
        self.pairs = None if pairs is None else tuple(pairs)
        self.scene_frames = max(round(scene_seconds * fps), 1)
        self._scene = lru_cache(maxsize=4)(self._sample)

    def _sample(self, number: int) -> Scene:
        return sample_scene(np.random.default_rng([self.seed, number]), self.pairs)

    def scene(self, index: int) -> Scene:
        """The scene that frame `index` shows."""
        return self._scene(index // self.scene_frames)

    def frame(self, index: int) -> tuple[NDArray[np.uint8], Truth]:
        """Frame `index` (0, 1, ...): a picture [H, W, 3] uint8 BGR and its truth."""
        if index < 0:
            raise InputError(f"a frame index must be 0 or more, got {index}")
        number, step = divmod(index, self.scene_frames)
        return render(self._scene(number), self.size, time=step / self.fps, noise=index, index=number)

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], Truth]]:
        index = 0
        while True:
            yield self.frame(index)
            index += 1
