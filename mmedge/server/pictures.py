"""JPEG pictures of frames: made beside the event loop, once for all that ask for the same one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from weakref import ref

import cv2
import numpy.typing as npt

from mmedge.results import Result
from mmedge.sources.frame import Frame

WIDTHS = (160, 320, 480, 640, 960, 1280, 1920)

_QUALITY = 80
_MOST_KEPT = 64


def offered_width(width: int | None) -> int | None:
    """The smallest of `WIDTHS` that is at least `width`; None, the frame's own, where there is none such."""
    return None if width is None else next((offered for offered in WIDTHS if offered >= width), None)


@dataclass(frozen=True, eq=False)
class Shot:
    """What a picture is made of.

    Attributes:
        key: Names the place that the picture is for, such as a source; a place keeps its newest picture only.
        frame, result: The frame, and what is drawn on it; None: nothing is.
        state: State of the source now, drawn on the picture where it is not live.
        width: In pixels, one of `WIDTHS`; None: the frame's own. Frames are never enlarged.
    """

    key: tuple[str, ...]
    frame: Frame
    result: Result | None = None
    state: str | None = None
    width: int | None = None


class Pictures:
    """Encodes, with at most `workers` at a time, and keeps the newest picture of each place, width and kind.

    Only the event loop's thread calls it.
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None
        # Of a frame only which it was: many pictures are kept of events whose frames nobody else keeps any more.
        self._kept: OrderedDict[tuple[Any, ...], tuple[ref[Frame], asyncio.Future[bytes]]] = OrderedDict()
        self.encoded = 0

    async def jpeg(self, shot: Shot) -> bytes:
        """The JPEG file of `shot`."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="mmedge-jpeg")
        place = (*shot.key, shot.width, shot.result is not None, shot.state if shot.result is not None else None)
        kept = self._kept.get(place)
        if kept is None or kept[0]() is not shot.frame:
            future = asyncio.get_running_loop().run_in_executor(self._pool, _encode, shot)
            self.encoded += 1
            self._kept[place] = kept = (ref(shot.frame), future)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        # One that gives up must not take the picture from the others.
        return await asyncio.shield(kept[1])

    def close(self) -> None:
        """Let go of the threads and the pictures."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        self._kept.clear()


def _encode(shot: Shot) -> bytes:
    picture: npt.NDArray[Any] = shot.frame.image
    if shot.result is not None:
        result = shot.result if shot.state is None else replace(shot.result, state=shot.state)
        picture = result.plot(picture)
    height, width = picture.shape[:2]
    if shot.width is not None and shot.width < width:
        size = (shot.width, max(1, round(height * shot.width / width)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    done, file = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise RuntimeError(f"OpenCV made no JPEG of a picture of {width}x{height}")
    return bytes(file)
