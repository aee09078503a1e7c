"""Every implementation that runs here, and the expected pictures by Pillow."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image

from mmedge_kernels.errors import NativeLibraryError
from mmedge_kernels.frame import FrameSettings, native, reference
from mmedge_kernels.frame.formats import check_frame
from mmedge_kernels.frame.tables import frame_tables

Run: TypeAlias = Callable[[FrameSettings, NDArray[np.uint8]], NDArray[Any]]

try:
    VARIANTS = native.variants()
except NativeLibraryError:
    VARIANTS = ()

PILLOW_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def _poisoned(tables: Any) -> NDArray[Any]:
    dtype = tables.values.dtype
    return np.full(tables.out_shape, 123 if dtype == np.uint8 else np.nan, dtype=dtype)


def _run_reference(settings: FrameSettings, frame: NDArray[np.uint8]) -> NDArray[Any]:
    tables = frame_tables(settings, *check_frame(frame, settings.color))
    out = _poisoned(tables)
    reference.run(tables, frame, out)
    return out


def _native_runner(variant: int) -> Run:
    def run(settings: FrameSettings, frame: NDArray[np.uint8]) -> NDArray[Any]:
        tables = frame_tables(settings, *check_frame(frame, settings.color))
        out = _poisoned(tables)
        native.NativePlan(tables, variant).run(frame, out, 1)
        return out

    return run


RUNS: dict[str, Run] = {"reference": _run_reference} | {
    f"native-{name}": _native_runner(index) for index, name in enumerate(VARIANTS)
}


@pytest.fixture(params=RUNS, scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """settings, frame -> tensor, by each implementation in turn, written into a poisoned array."""
    return RUNS[request.param]


@pytest.fixture(scope="session")
def run_reference() -> Run:
    return RUNS["reference"]


@pytest.fixture
def needs_native() -> None:
    if not VARIANTS:
        pytest.skip("the native frame library is not built: install the package with a C++ compiler")


@pytest.fixture(scope="session")
def photos(data_dir: Path) -> dict[str, NDArray[np.uint8]]:
    """File name -> RGB frame."""
    found = {path.name: np.asarray(Image.open(path).convert("RGB")) for path in sorted((data_dir / "photos").iterdir())}
    assert found
    return found


@pytest.fixture(scope="session")
def pillow_picture() -> Callable[[NDArray[np.uint8], FrameSettings], NDArray[np.uint8]]:
    """RGB frame, settings -> the picture [h, w, 3] that they ask for, resized by Pillow and cut or padded here."""
    return _pillow_picture


@pytest.fixture(scope="session")
def noise() -> Callable[..., NDArray[np.uint8]]:
    """height, width -> a random frame with hard edges, so that sums reach beyond 0 and 255 before the clamping."""
    return _noise


@pytest.fixture(scope="session")
def random_frame() -> Callable[..., NDArray[np.uint8]]:
    """color, height, width -> a random frame of that format, as `noise`."""
    return _random_frame


@pytest.fixture(scope="session")
def all_colors() -> list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]]:
    """Luma [H, W], u and v [H / 2, W / 2] that hold every one of the 2**24 triples once, in 16 parts."""
    values = np.arange(256, dtype=np.uint8)
    # A block of 2 x 2 pixels has one chroma: 64 blocks side by side hold all luma, and every row of blocks one (u, v).
    blocks = values.reshape(64, 2, 2).transpose(1, 0, 2).reshape(2, 128)
    parts = []
    for first in range(0, 256, 16):
        u, v = (part.reshape(-1, 1).repeat(64, axis=1) for part in np.meshgrid(values, values[first : first + 16]))
        parts.append((np.tile(blocks, (len(u), 1)), u, v))
    return parts


@pytest.fixture(scope="session")
def yuv_frame() -> Callable[..., NDArray[np.uint8]]:
    """color, luma [H, W], u and v [H / 2, W / 2] -> the frame; in YUYV two rows have the same chroma."""
    return _yuv_frame


def _yuv_frame(color: str, *planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    luma, u, v = planes
    chroma = np.stack((u, v), axis=-1).reshape(len(u), -1)
    if color == "nv12":
        return np.concatenate((luma, chroma))
    return np.stack((luma, chroma.repeat(2, axis=0)), axis=-1)


def _random_frame(color: str, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    shapes = {"grey": (height, width), "nv12": (height * 3 // 2, width), "yuyv": (height, width, 2)}
    shape = shapes.get(color, (height, width, 3))
    count = int(np.prod(shape))
    return _noise(1, -(-count // 3), seed).reshape(-1)[:count].reshape(shape)


def _pillow_picture(rgb: NDArray[np.uint8], settings: FrameSettings) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    out_height, out_width = settings.size
    if settings.resize == "stretch":
        resized = settings.size
    elif settings.resize == "letterbox":
        ratio = min(out_height / height, out_width / width)
        resized = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    else:
        target = settings.shortest_edge or min(settings.size)
        other = int(target * max(height, width) / min(height, width))
        resized = (other, target) if width <= height else (target, other)
    image = Image.fromarray(np.ascontiguousarray(rgb))
    picture = np.asarray(_pillow_resize(image, resized, PILLOW_FILTERS[settings.interpolation]))
    before_up = settings.resize == "shortest-edge"
    for axis, wanted in enumerate(settings.size):
        picture = _fit(picture, axis, wanted, before_up, settings.pad_value)
    return picture


def _pillow_resize(image: Image.Image, resized: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    rows_less, columns_less = image.height - resized[0], image.width - resized[1]
    if int(PIL.__version__.split(".")[0]) < 13 and rows_less > 0 and rows_less > 2 * columns_less:
        image = image.resize((image.width, resized[0]), resample)  # newer versions take this pass first by themselves
    return image.resize(resized[::-1], resample)


def _fit(picture: NDArray[np.uint8], axis: int, wanted: int, before_up: bool, value: int) -> NDArray[np.uint8]:
    spare = wanted - picture.shape[axis]
    if spare <= 0:
        start = -spare // 2
        return picture.take(range(start, start + wanted), axis=axis)
    before = (spare + 1) // 2 if before_up else spare // 2
    padding = [(0, 0)] * 3
    padding[axis] = (before, spare - before)
    return np.pad(picture, padding, constant_values=value)


@functools.lru_cache(maxsize=32)
def _noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng([seed, height, width])
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    extreme = rng.random((height, width, 1)) < 0.5
    frame = np.where(extreme, np.where(frame < 128, 0, 255), frame).astype(np.uint8)
    frame.flags.writeable = False
    return frame
