"""Results, events and states as JSON Lines in a file of bounded size."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from mmedge.errors import InputError, SinkError
from mmedge.sinks.records import TYPES, ItemType, classes_of, encode, record
from mmedge.sinks.sink import Item, SinkContext

_BLOCK = 65536
_SMALLEST = 4096


class JsonLines:
    """Appends one line an item to a file: the JSON of ``mmedge run`` with a ``type`` of ``result``, ``event``,
    ``state`` or ``prompts`` before it.

    Each line is handed to the operating system whole before `write` returns: a killed process leaves no line behind
    half, a power cut may. A half line at the end of a file that is already there is cut off. What a full disk took of
    a line is taken back, and later lines are written when there is room.

    A file belongs to one sink at a time. A file that is deleted or moved away meanwhile is made again.

    Args:
        path: The file; its folder must be there.
        types: The types of items that are written.
        max_bytes: A file that a line would make larger becomes ``PATH.1``, and ``PATH.1`` becomes ``PATH.2``; at least
            4096. None: no limit.
        keep: How many of those are kept, from 0.

    Raises:
        InputError: An argument is out of range.
        SinkError: The file cannot be written to.
    """

    kind = "jsonl"
    pixels = False

    def __init__(
        self,
        path: str | Path,
        *,
        types: Sequence[ItemType] = tuple(TYPES),
        max_bytes: int | None = 100_000_000,
        keep: int = 4,
    ) -> None:
        if max_bytes is not None and max_bytes < _SMALLEST:
            raise InputError(f"max_bytes must be at least {_SMALLEST}, or None for no limit, got {max_bytes}")
        if keep < 0:
            raise InputError(f"keep must be 0 or more, got {keep}")
        self.path = Path(path)
        self.takes = classes_of(types)
        self._max_bytes = max_bytes
        self._keep = keep
        self._file: int | None = None
        self._size = 0
        self._open()

    def write(self, item: Item) -> None:
        """Append the line of an item.

        Raises:
            SinkError: It could not be written. The file ends with the line before.
        """
        if isinstance(item, self.takes):
            self._append(encode(record(item)) + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            file = self._current(len(line))
            done = 0
            try:
                while done < len(line):
                    done += os.write(file, line[done:])
            except OSError:
                os.ftruncate(file, self._size)
                raise
            self._size += done
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _current(self, coming: int) -> int:
        """The open file, with room for so many bytes."""
        if self._file is not None and not self._is_in_place(self._file):
            self.close()
        file = self._open() if self._file is None else self._file
        if self._max_bytes is None or not self._size or self._size + coming <= self._max_bytes:
            return file
        return self._rotate()

    def _is_in_place(self, file: int) -> bool:
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        ours = os.fstat(file)
        return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)

    def _open(self) -> int:
        if self.path.exists() and not self.path.is_file():
            raise SinkError(f"{self.path} cannot be written to: expected a file")
        try:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        try:
            _lock(file, self.path)
            self._size = _mend(file)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return file

    def _rotate(self) -> int:
        self.close()
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{number + 1}") for number in range(self._keep))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)
        if not self._keep:
            self.path.unlink(missing_ok=True)
        return self._open()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def open_jsonl(
    context: SinkContext,
    *,
    path: str,
    types: list[ItemType] | None = None,
    max_bytes: int | None = 100_000_000,
    keep: int = 4,
) -> JsonLines:
    """As a device file asks for it."""
    return JsonLines(path, types=tuple(TYPES) if types is None else types, max_bytes=max_bytes, keep=keep)


def _cannot_write(path: Path, error: OSError) -> SinkError:
    return SinkError(f"{path} cannot be written to: {error.strerror or error}")


def _lock(file: int, path: Path) -> None:
    """Refuse a file that another sink has open, where the system can tell."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SinkError(f"{path} cannot be written to: another process or sink writes to it") from error


def _mend(file: int) -> int:
    """End the file with a whole line; returns its size. A last line without its end is kept if it is whole JSON."""
    size = os.lseek(file, 0, os.SEEK_END)
    tail = b""
    start = size
    while start > 0 and b"\n" not in tail:
        start = max(0, start - _BLOCK)
        os.lseek(file, start, os.SEEK_SET)
        tail = os.read(file, min(_BLOCK, size - start - len(tail))) + tail
    half = tail[tail.rfind(b"\n") + 1 :]
    if not half:
        return size
    try:
        json.loads(half)
    except ValueError:
        os.ftruncate(file, size - len(half))
        return size - len(half)
    return size + os.write(file, b"\n")
