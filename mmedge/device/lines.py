"""Where in a TOML text each key stands: the parsers of the standard library tell values, and no lines."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from mmedge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Path = tuple[str | int, ...]
"""Names of tables and keys, and numbers of elements of arrays, from the outside in."""

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACES = re.compile(r"[ \t]*")
_KEY = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z0-9_-]+')
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'',
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")
_PLACE = re.compile(r"\s*\(at line (\d+), column \d+\)$|\s*\(at end of document\)$")


def parse(text: str, name: str) -> tuple[dict[str, Any], LineIndex]:
    """A TOML text and where its keys stand.

    Args:
        name: Of the file, for messages.

    Raises:
        ConfigError: It is no TOML; names the line.
    """
    # A byte order mark is what some editors leave; TOML has none.
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.search(str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        raise ConfigError(f"{name}:{line}: expected TOML: {_PLACE.sub('', str(error))}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}:1: expected TOML: arrays or tables are nested too deeply") from error
    return values, LineIndex(text)


class LineIndex:
    """The line of each key of a TOML text.

    Args:
        text: Valid TOML, with ``\\n`` between lines.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._after = 0
        self._scan()

    def line(self, path: Path) -> int:
        """The line, from 1, on which `path` stands, or else the nearest key around it; 1 where there is none."""
        return next((self._lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._lines), 1)

    def _scan(self) -> None:
        table: Path = ()
        at = self._skip(0)
        while at < len(self._text):
            if self._text[at] == "[":
                table, at = self._header(at)
            else:
                at = self._pair(at, table)
            at = self._skip(at)

    def _header(self, at: int) -> tuple[Path, int]:
        several = self._text.startswith("[[", at)
        keys, end = self._keys(at + 1 + several)
        path: Path = ()
        for place, key in enumerate(keys):
            path = (*path, key)
            self._note(path, at)
            last = place == len(keys) - 1
            if last and several:
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                # A header below an array of tables speaks of its last element.
                path = (*path, self._counts[path])
                self._note(path, at)
        return path, self._text.index("]", end) + 1 + several

    def _pair(self, at: int, table: Path) -> int:
        keys, end = self._keys(at)
        path = table
        for key in keys:
            path = (*path, key)
            self._note(path, at)
        return self._value(_spaces(self._text, self._text.index("=", end) + 1), path)

    def _value(self, at: int, path: Path) -> int:
        if self._text[at] == "[":
            return self._array(at + 1, path)
        if self._text[at] == "{":
            return self._inline(at + 1, path)
        string = _STRING.match(self._text, at)
        return string.end() if string else _end(_SCALAR, self._text, at)

    def _array(self, at: int, path: Path) -> int:
        for number, start in enumerate(self._elements(at, "]")):
            self._note((*path, number), start)
            self._after = self._value(start, (*path, number))
        return self._after + 1

    def _inline(self, at: int, path: Path) -> int:
        for start in self._elements(at, "}"):
            self._after = self._pair(start, path)
        return self._after + 1

    def _elements(self, at: int, closing: str) -> Iterator[int]:
        """Where the elements begin; whoever takes one says in `_after` where it ended."""
        self._after = self._skip(at)
        while self._text[self._after] != closing:
            yield self._after
            self._after = self._skip(self._after)
            if self._text[self._after] == ",":
                self._after = self._skip(self._after + 1)

    def _keys(self, at: int) -> tuple[list[str], int]:
        keys: list[str] = []
        while True:
            match = _KEY.match(self._text, _spaces(self._text, at))
            if match is None:
                return keys, at
            keys.append(_plain(match[0]))
            at = _spaces(self._text, match.end())
            if self._text[at] != ".":
                return keys, at
            at += 1

    def _note(self, path: Path, at: int) -> None:
        self._lines.setdefault(path, bisect_right(self._starts, at))

    def _skip(self, at: int) -> int:
        return _end(_BLANK, self._text, at)


def _plain(key: str) -> str:
    return str(tomllib.loads(f"key = {key}")["key"]) if key[0] in "\"'" else key


def _spaces(text: str, at: int) -> int:
    return _end(_SPACES, text, at)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return at if match is None else match.end()
