"""The words by which a source is asked for."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from mmedge.errors import InputError, SourceOpenError

GRAMMAR = (
    "a source is a camera number (0), a device (/dev/video0), rtsp://HOST/PATH, a video or picture file, a folder of "
    "pictures, a pattern ('*.jpg'), or tabletop://?seed=3&width=640&height=480&fps=30 (the built-in synthetic camera)"
)

_LONGEST_S = 1e6

_USER_INFO = re.compile(r"(?<=://)([^:/?#@]*):(.*)@")
_SECRET_FIELD = re.compile(r"(?i)\b(pass(?:word|wd)?|pwd|token|secret|key)=[^&/]*")


def spec_of(source: object) -> str | None:
    """The words for a source that is given by name, path or number; None where `source` is none of these."""
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, (int, np.integer)) and not isinstance(source, bool):
        return str(int(source))
    return source if isinstance(source, str) else None


def checked_seconds(name: str, value: Any) -> float:
    """`value`, the argument `name`, as a time that can be waited for.

    Raises:
        InputError: It is none.
    """
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if number and 0 < value <= _LONGEST_S:
        return float(value)
    raise InputError(f"{name} must be a number of seconds above 0 and up to {_LONGEST_S:,.0f}, got {value!r}")


def mask_passwords(spec: str) -> str:
    """`spec` with the password of ``user:password@`` and of fields such as ``password=`` replaced by ``***``."""
    return _SECRET_FIELD.sub(r"\1=***", _USER_INFO.sub(r"\1:***@", spec))


def scheme_of(spec: str) -> str | None:
    """``rtsp`` of ``rtsp://...``; None where there is no scheme."""
    scheme, separator, _ = spec.partition("://")
    return scheme.lower() if separator else None


def query_numbers(spec: str, known: dict[str, float]) -> dict[str, float]:
    """The numbers behind the ``?`` of `spec`, over the defaults `known`.

    Raises:
        SourceOpenError: A field is not in `known`, stands there twice, or is no number.
    """
    parts = urlsplit(spec)
    if parts.netloc or parts.path not in ("", "/"):
        raise SourceOpenError(f"{spec}: expected options behind '?', got {parts.netloc + parts.path!r}; {GRAMMAR}")
    found: dict[str, float] = {}
    for field, text in parse_qsl(parts.query, keep_blank_values=True):
        if field not in known or field in found:
            raise SourceOpenError(f"{spec}: expected each of {', '.join(known)} at most once, got {field!r}")
        try:
            found[field] = float(text)
        except ValueError as error:
            raise SourceOpenError(f"{spec}: {field} must be a number, got {text!r}") from error
    return known | found
