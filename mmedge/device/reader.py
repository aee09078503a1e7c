"""Tables of a TOML file against their schemas; every problem is noted with its line, none is raised at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mmedge.device.lines import LineIndex, Path
from mmedge.device.schema import MismatchError, Schema, converted, guess, nearest
from mmedge.device.secrets import Secrets, is_secret
from mmedge.errors import ConfigError, MmedgeError

T = TypeVar("T")

_MOST_PROBLEMS = 20
_LONGEST = 60
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_MISSING = object()


class Reader:
    """Takes checked values out of a file.

    Args:
        name: Of the file, for messages.
        values: As they stand in the file, for messages: variables are not replaced in them.
        lines: Where they stand.
        secrets: What messages must not say.
    """

    def __init__(self, name: str, values: Mapping[str, Any], lines: LineIndex, secrets: Secrets) -> None:
        self._name = name
        self._raw = values
        self._lines = lines
        self._secrets = secrets
        self._problems: list[tuple[int, str]] = []

    def problem(self, path: Path, text: str) -> None:
        """Note what is wrong at `path`."""
        line = self._lines.line(path)
        where = f"{dotted(path)}: " if path else ""
        self._problems.append((line, f"{self._name}:{line}: {where}{self._secrets.hide(text)}"))

    def expected(self, path: Path, what: str) -> None:
        """Note that something else stands at `path` than was expected."""
        self.problem(path, f"expected {what}, got {self.shown(path)}")

    def done(self) -> None:
        """Raises ConfigError where there were problems: one a line, in the order of the file, 20 at most."""
        if self._problems:
            found = list(dict.fromkeys(text for _, text in sorted(self._problems, key=lambda one: one[0])))
            more = [f"… and {len(found) - _MOST_PROBLEMS} more"] if len(found) > _MOST_PROBLEMS else []
            raise ConfigError("\n".join(found[:_MOST_PROBLEMS] + more))

    def shown(self, path: Path) -> str:
        """What stands at `path`, for a message: short, and nothing that is secret."""
        value: Any = self._raw
        for key in path:
            fits = isinstance(value, dict) if isinstance(key, str) else isinstance(value, list)
            value = value[key] if fits and (isinstance(key, int) or key in value) else _MISSING
        if value is _MISSING:
            return "nothing"
        if any(is_secret(key) for key in path):
            return "***"
        if isinstance(value, dict):
            return "a table"
        text = self._secrets.hide(repr(value) if not isinstance(value, bool) else str(value).lower())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"

    def tables(self, values: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
        """The tables ``[kind.NAME]`` by their names."""
        found = values.get(kind, {})
        if not isinstance(found, dict):
            self.expected((kind,), f"tables [{kind}.NAME]")
            return {}
        good: dict[str, dict[str, Any]] = {}
        for name, table in found.items():
            if not isinstance(table, dict):
                self.expected((kind, name), f"a table [{kind}.NAME]")
            elif not _NAME.fullmatch(name):
                self.problem((kind, name), f"expected a name of letters, digits, _, - and ., up to 64, got {name!r}")
            else:
                good[name] = table
        return good

    def table(self, values: Any, path: Path, schema: Schema) -> dict[str, Any] | None:
        """The values of a table as keyword arguments; None where one of them cannot be used."""
        if not isinstance(values, dict):
            self.expected(path, "a table")
            return None
        before = len(self._problems)
        result: dict[str, Any] = {}
        for name, value in values.items():
            if name not in schema:
                self.problem((*path, name), f"there is no such key; {nearest(name, schema)}")
                continue
            try:
                result[name] = converted(value, schema[name])
            except MismatchError:
                self.expected((*path, name), schema[name].expected)
        meant = {guess(name, schema) for name in values if name not in schema}
        for name, key in schema.items():
            if key.required and name not in values and name not in meant:
                self.problem(path, f"expected the key {name!r}, {key.expected}, and it is missing")
        return result if len(self._problems) == before else None

    def make(self, path: Path, values: Mapping[str, Any], call: Callable[[], T]) -> T | None:
        """What `call` makes of a table; an error that it raises is noted at the key that its message names."""
        try:
            return call()
        except MmedgeError as error:
            message = str(error)
            key = next((word for word in re.findall(r"[a-z_]+", message) if word in values), None)
            self.problem(path if key is None else (*path, key), message)
            return None


def dotted(path: Path) -> str:
    """``sources.front.blur[1]``."""
    words = ""
    for key in path:
        if isinstance(key, int):
            words += f"[{key}]"
        else:
            words += ("." if words else "") + (key if _BARE.fullmatch(key) else f'"{key}"')
    return words
