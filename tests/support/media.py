"""Videos, pictures and scripted sources for tests."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mmedge.sources import Frame
from mmedge.sources.stamp import FrameMaker

Picture = npt.NDArray[np.uint8]


def numbered(index: int, width: int = 64, height: int = 48) -> Picture:
    """A frame that carries its number: eight grey bars, bright for the bits that are 1, lowest first."""
    bits = [(index >> bit) & 1 for bit in range(8)]
    bars = np.repeat(np.array(bits, np.uint8) * 200 + 20, width // 8)
    return np.ascontiguousarray(np.broadcast_to(bars[None, :, None], (height, len(bars), 3)))


def number_of(image: Picture) -> int:
    """The number that `numbered` put into a frame, after any lossy coding."""
    columns = image.mean(axis=(0, 2)).reshape(8, -1).mean(axis=1)
    return sum(int(level > 120) << bit for bit, level in enumerate(columns))


def write_video(path: Path, frames: int, *, fps: float = 25.0, width: int = 64, height: int = 48) -> Path:
    """An .mp4 of numbered frames (MPEG-4 part 2, its index at the end)."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    for index in range(frames):
        writer.write(numbered(index, width, height))
    writer.release()
    return path


def index_first(path: Path) -> bytes:
    """The bytes of an .mp4 with its index moved to the front, so that a cut file can still be opened."""
    boxes = dict(_boxes(path.read_bytes()))
    moov = bytearray(boxes[b"moov"])
    place = moov.find(b"stco")
    count = struct.unpack_from(">I", moov, place + 8)[0]
    for entry in range(count):
        offset = place + 12 + 4 * entry
        struct.pack_into(">I", moov, offset, struct.unpack_from(">I", moov, offset)[0] + len(moov))
    rest = b"".join(data for kind, data in boxes.items() if kind not in (b"moov", b"ftyp"))
    return boxes[b"ftyp"] + bytes(moov) + rest


def rotate_header(path: Path, degrees: int) -> None:
    """Set the rotation by which a player shall turn the pictures of an .mp4, clockwise."""
    data = bytearray(path.read_bytes())
    sine, cosine = {90: (1, 0), 180: (0, -1), 270: (-1, 0)}[degrees]
    unit = 1 << 16
    place = data.find(b"tkhd") + 4 + 40
    struct.pack_into(">9i", data, place, cosine * unit, sine * unit, 0, -sine * unit, cosine * unit, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place < len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        yield kind, data[place : place + size]
        place += size


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A tiny .png whose header claims a size that its content does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


class Script:
    """A source that does as told: gives `frames` frames, `interval` seconds apart, then ends, raises or hangs.

    Args:
        then: ``end``, an exception to raise, or ``hang``: block until `release` is set, deaf to `close`.
    """

    incomplete = None

    def __init__(
        self,
        frames: int = 10**9,
        *,
        interval: float = 0.0,
        live: bool = True,
        then: str | Exception = "end",
        name: str = "script",
        fps: float | None = None,
    ) -> None:
        self.name, self.live, self.fps, self.frame_count = name, live, fps, None
        self.closed = threading.Event()
        self.release = threading.Event()
        self.reads = 0
        self._limit, self._interval, self._then = frames, interval, then
        self._frames = FrameMaker(name)

    def read(self) -> Frame | None:
        self.reads += 1
        if self._frames.next_index >= self._limit:
            if isinstance(self._then, Exception):
                raise self._then
            if self._then == "hang":
                self.release.wait(30)
            return None
        if self.closed.wait(self._interval):
            return None
        return self._frames.make(numbered(self._frames.next_index))

    def close(self) -> None:
        self.closed.set()


def settled(condition: Any, seconds: float = 2.0) -> bool:
    """Whether `condition()` becomes true within `seconds`."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(condition())
