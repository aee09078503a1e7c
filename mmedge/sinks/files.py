"""Files that follow each other, ``run.mcap``, ``run-1.mcap``, ``run-2.mcap``, and are written in whole pieces."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mmedge.errors import InputError, SinkError


class Family:
    """Names for files that follow each other. No file that is there is ever written to.

    Args:
        path: The name of the first one; further ones, also of later runs, get a number.
        suffix: What `path` must end in.
        keep: How many there may be; the oldest are deleted. None: all.

    Raises:
        InputError: `keep` is out of range.
        SinkError: `path` has another ending, or its folder cannot be written to.
    """

    def __init__(self, path: str | Path, suffix: str, keep: int | None) -> None:
        self.path = Path(path)
        if keep is not None and keep < 1:
            raise InputError(f"keep must be 1 or more, or None for all, got {keep}")
        if self.path.suffix.lower() != suffix:
            raise SinkError(f"{self.path}: expected a name that ends in {suffix}")
        folder = self.path.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise SinkError(f"{self.path} cannot be written: {folder} is no folder in which files can be made")
        self._keep = keep
        self._name = re.compile(rf"{re.escape(self.path.stem)}(?:-(\d{{1,9}}))?{re.escape(self.path.suffix)}")

    def existing(self) -> list[Path]:
        """Those that are there, oldest first."""
        found = [(match, path) for path in self.path.parent.iterdir() if (match := self._name.fullmatch(path.name))]
        return [path for _, path in sorted(found, key=lambda pair: int(pair[0][1] or 0))]

    def next(self) -> Path:
        """A name that is free, later than all that are there."""
        there = self.existing()
        if not there:
            return self.path
        match = self._name.fullmatch(there[-1].name)
        number = int(match[1] or 0) + 1 if match else 1
        return self.path.with_name(f"{self.path.stem}-{number}{self.path.suffix}")

    def prune(self, coming: int = 0) -> None:
        """Delete the oldest beyond `keep`, with room for those that are coming."""
        if self._keep is not None:
            there = self.existing()
            for path in there[: max(0, len(there) + coming - self._keep)]:
                path.unlink(missing_ok=True)


class WholeFile:
    """A new file that takes what is flushed whole or not at all, and then keeps it to try again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
        self._written = 0
        self._waiting = bytearray()

    @property
    def waiting(self) -> int:
        """Bytes that are not in the file yet."""
        return len(self._waiting)

    def write(self, data: bytes) -> int:
        """Add bytes to those that wait."""
        self._waiting += data
        return len(data)

    def tell(self) -> int:
        """Bytes in the file, and those that wait."""
        return self._written + len(self._waiting)

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: The disk did not take it. The file is as before, and all of it still waits.
        """
        done = 0
        try:
            while done < len(self._waiting):
                # Released at once: while a view of it lives, as in the trace of an error, nothing can be added.
                with memoryview(self._waiting) as view, view[done:] as rest:
                    done += os.write(self._file, rest)
        except OSError:
            os.ftruncate(self._file, self._written)
            os.lseek(self._file, self._written, os.SEEK_SET)
            raise
        self._written += done
        self._waiting.clear()

    def close(self) -> None:
        """Close the file, without what waits; one in which there is nothing is deleted."""
        os.close(self._file)
        if not self._written:
            self._path.unlink(missing_ok=True)


def check_ending(kind: str, path: str, suffix: str) -> None:
    """Refuse a name that no later try can make right.

    Raises:
        InputError: `path` has another ending.
    """
    if Path(path).suffix.lower() != suffix:
        raise InputError(f"{kind}: path must end in {suffix}, got {path!r}")
