"""Telling a camera that hangs from one that looks at a still scene."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

_STEP = 16
"""Every 16th pixel of every 16th row: a picture with a sensor's noise differs there, at 1/256 of the cost."""


class FrozenDetector:
    """Finds runs of equal pictures. Any two pictures that a sensor really took differ by its noise.

    A few pixels are compared first; only where they are equal the whole picture is read, for its CRC-32. A run
    therefore begins at its second picture. Pictures are not kept: whoever holds a frame may draw on it.

    Args:
        after: Seconds of equal pictures after which they count as frozen; None: never.
        before: The detector of the connection before this one: a camera that comes back with the picture that it hung
            at has not moved on.
    """

    def __init__(self, after: float | None, before: FrozenDetector | None = None) -> None:
        self._after = after
        self._sample: tuple[tuple[int, ...], bytes] | None = None
        self._digest: int | None = None
        self._since = 0.0
        if before is not None:
            self._sample, self._digest, self._since = before._sample, before._digest, before._since

    def frozen(self, image: npt.NDArray[np.uint8], now: float) -> bool:
        """Whether the pictures have been equal for `after` seconds.

        Args:
            image: The next picture, uint8 [H, W, 3].
            now: When it came, seconds of `time.monotonic`.
        """
        if self._after is None:
            return False
        sample = (image.shape, image[::_STEP, ::_STEP].tobytes())
        if sample != self._sample:
            self._sample, self._digest = sample, None
            return False
        digest = zlib.crc32(np.ascontiguousarray(image).data)
        if digest != self._digest:
            self._digest, self._since = digest, now
            return False
        return now - self._since >= self._after
