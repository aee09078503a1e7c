"""What every source offers."""

from __future__ import annotations

import os
from typing import Protocol

from mmedge.sources.frame import Frame


class Source(Protocol):
    """A camera, stream, video or set of pictures.

    A protocol, so that a robot's own camera driver can be a source without inheriting from anything.
    """

    @property
    def name(self) -> str:
        """How it was asked for, passwords masked."""
        ...

    @property
    def live(self) -> bool:
        """Frames come by themselves, and one that is not taken in time is gone."""
        ...

    @property
    def fps(self) -> float | None:
        """Nominal frames a second; None where there is no such rate."""
        ...

    @property
    def frame_count(self) -> int | None:
        """Frames that it promises to give; None where nobody knows."""
        ...

    @property
    def incomplete(self) -> str | None:
        """After the end: why there was less than promised, in words. None where nothing is missing."""
        ...

    def read(self) -> Frame | None:
        """The next frame, waiting for it; None at the end.

        Raises:
            SourceOpenError: Nothing in it can be decoded.
            SourceLostError: A live source stopped giving frames.
        """
        ...

    def close(self) -> None:
        """Let go of the device or file.

        May be called from any thread and more than once: a read that is under way ends as soon as it can, with None.
        """
        ...


SourceLike = str | int | os.PathLike[str] | Source
"""What names a source, or an open one."""
