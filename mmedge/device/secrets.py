"""Secrets of a device file: where they come from, and that they are never shown."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from mmedge.device.lines import Path as KeyPath
from mmedge.sources.spec import mask_text

_VARIABLE = re.compile(r"\$(\$\{)|\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = re.compile(r"(?i)pass|secret|token|credential|authorization|(^|_)(pw|pwd|key)$|api_?key")
_LARGEST_FILE = 64 * 1024
_FORMATTER = logging.Formatter()
_SHORTEST = 4
"""Shorter values stand in too many words to be hidden wherever they occur."""


class Secrets:
    """Values that no log line, status or message may hold.

    Args:
        values: Those known so far; shorter ones than 4 characters cannot be told from ordinary words and are left out.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        for value in values:
            self.add(value)

    def add(self, value: str) -> None:
        """Hide one more, also in the form in which it stands in addresses."""
        self._values.update(form for form in (value, quote(value, safe="")) if len(form) >= _SHORTEST)

    def hide(self, text: str) -> str:
        """`text` with every secret replaced by ``***``, and the passwords of addresses, known or not."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, "***")
        return mask_text(text)

    def hidden(self, value: Any) -> Any:
        """JSON values with the secrets in their texts replaced."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {name: self.hidden(one) for name, one in value.items()}
        return [self.hidden(one) for one in value] if isinstance(value, (list, tuple)) else value


class HidingFilter(logging.Filter):
    """Hides secrets in log lines.

    Args:
        secrets: Asked at each line, because a reload may bring others.
    """

    def __init__(self, secrets: Callable[[], Secrets]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        secrets = self._secrets()
        record.msg, record.args = secrets.hide(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            # What a handler shows of the error, instead of making it itself.
            record.exc_text = secrets.hide(_FORMATTER.formatException(record.exc_info))
        return True


def is_secret(key: object) -> bool:
    """Whether the value of a key of this name is not to be shown."""
    return isinstance(key, str) and not key.endswith("_file") and _WORDS.search(key) is not None


def expand(value: Any, secrets: Secrets, complain: Callable[[KeyPath, str], None], path: KeyPath = ()) -> Any:
    """TOML values with each ``${NAME}`` in their texts replaced by the environment variable; ``$${`` stands for ``${``.

    Args:
        secrets: Takes in what variables with names such as ``HALL_PASSWORD`` hold, and keys such as ``password``.
        complain: Told where a variable is not set.
    """
    if isinstance(value, dict):
        return {key: expand(one, secrets, complain, (*path, key)) for key, one in value.items()}
    if isinstance(value, list):
        return [expand(one, secrets, complain, (*path, number)) for number, one in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        if match[1]:
            return "${"
        name = match[2]
        if not _NAME.fullmatch(name):
            complain(path, f"expected ${{NAME}} with the name of an environment variable, got ${{{name}}}")
        elif name not in os.environ:
            complain(path, f"expected the environment variable {name} to be set, and it is not")
        else:
            if is_secret(name):
                secrets.add(os.environ[name])
            return os.environ[name]
        # Left as it is, it makes no second mistake of the one that was told.
        return match[0]

    expanded = _VARIABLE.sub(replaced, value)
    if any(is_secret(key) for key in path):
        secrets.add(expanded)
    return expanded


def read_secret(path: Path, secrets: Secrets) -> str:
    """The first line of a file that holds nothing but a password or token.

    Raises:
        ValueError: In words what was expected of the file, and what it is.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ValueError(f"expected a file that can be read, got {os.fspath(path)}: {reason}") from error
    lines = text.splitlines()
    if not lines or not lines[0].strip() or any(line.strip() for line in lines[1:]):
        raise ValueError(f"expected a file of one line, got {os.fspath(path)} with {len(lines)}")
    secrets.add(lines[0].strip())
    return lines[0].strip()


def password_of(url: str) -> str | None:
    """The password in an address, as it is meant; None where there is none."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return None
    return None if password is None else unquote(password)
