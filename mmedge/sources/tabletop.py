"""The built-in synthetic camera as a source."""

from __future__ import annotations

from mmedge.errors import InputError, SourceOpenError
from mmedge.sources.frame import Frame
from mmedge.sources.paced import PacedSource
from mmedge.sources.spec import query_numbers
from mmedge.sources.stamp import FrameMaker
from mmedge.tabletop import Tabletop, Truth

_DEFAULTS = {"seed": 0.0, "width": 640.0, "height": 480.0, "fps": 30.0, "live": 1.0, "frames": 0.0}
_TRUTHS = 128
"""More frames than any queue between the camera and a result holds."""

_LARGEST = {"seed": 2**53, "width": 7680, "height": 4320, "fps": 1000}


class TabletopSource:
    """Frames of the synthetic table, as fast as they are asked for. The frame index is the scene's own.

    Args:
        name: How it was asked for.
        camera: The renderer.
        frames: How many to give; None: without end.
    """

    live = False
    incomplete = None

    def __init__(self, name: str, camera: Tabletop, frames: int | None) -> None:
        self.name = name
        self._camera = camera
        self.fps = camera.fps
        self.frame_count = frames
        self._frames = FrameMaker(name)
        self._truths: dict[int, Truth] = {}
        self._closed = False

    def read(self) -> Frame | None:
        index = self._frames.next_index
        if self._closed or index == self.frame_count:
            return None
        image, truth = self._camera.frame(index)
        self._truths[index] = truth
        self._truths.pop(index - _TRUTHS, None)
        return self._frames.make(image, media_time_s=index / self.fps)

    def truth(self, index: int) -> Truth | None:
        """What frame `index` really shows; None unless it is one of the last 128."""
        return self._truths.get(index)

    def close(self) -> None:
        self._closed = True


def open_tabletop(spec: str) -> TabletopSource | PacedSource:
    """The source for ``tabletop://?seed=3&width=640&height=480&fps=30&frames=100&live=0``.

    Live, the default, it gives `fps` frames a second and whoever is late misses some; with ``live=0`` every frame, as
    fast as asked.

    Raises:
        SourceOpenError: An option is unknown or out of range.
    """
    numbers = query_numbers(spec, _DEFAULTS)
    if numbers["live"] not in (0, 1) or numbers["frames"] < 0 or not numbers["frames"].is_integer():
        raise SourceOpenError(f"{spec}: live must be 0 or 1, and frames a whole number, 0 for endless")
    source = TabletopSource(spec, _camera(spec, numbers), int(numbers["frames"]) or None)
    return PacedSource(source) if numbers["live"] else source


def _camera(spec: str, numbers: dict[str, float]) -> Tabletop:
    for field, largest in _LARGEST.items():
        if not numbers[field] <= largest or (field != "fps" and not numbers[field].is_integer()):
            raise SourceOpenError(f"{spec}: {field} must be a whole number up to {largest}, got {numbers[field]:g}")
    size = int(numbers["width"]), int(numbers["height"])
    try:
        return Tabletop(seed=int(numbers["seed"]), size=size, fps=numbers["fps"])
    except InputError as error:
        raise SourceOpenError(f"{spec}: {error}") from error
