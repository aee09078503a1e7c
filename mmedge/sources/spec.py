"""The words by which a source is asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from mmedge.errors import InputError, MmedgeError, SourceOpenError

GRAMMAR = (
    "a source is a camera number (0), a device (/dev/video0), both with options such as ?size=1280x720&fps=30&"
    "format=mjpeg, rtsp://HOST/PATH (rtsp+udp://, rtsp+tcp://, rtsps://), csi://0?size=1280x720&fps=30&flip=180, "
    "gst://PIPELINE, a video or picture file, a folder of pictures, a pattern ('*.jpg'), "
    "tabletop://?seed=3&width=640&height=480&fps=30 (the built-in synthetic camera), or fault+SOURCE?drop=0.1 (any of "
    "these with faults)"
)

LARGEST_SIDE = 7680

_FASTEST = 1000.0
_LONGEST_S = 1e6

FAULT_PREFIX = "fault+"

_SPAN = r"\d+(?:\.\d+)?(?:ms|s)?"
_FAULT = rf"[a-z]+=(?:\d+x\d+|{_SPAN})(?:\*{_SPAN})?(?:@{_SPAN}(?:/{_SPAN})?)?"
_FAULTY = re.compile(rf"(?is)(fault\+(?!fault\+))(.*)(\?{_FAULT}(?:&{_FAULT})*)(: [^@]*)?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_USER_INFO = re.compile(r"(?s)://[^:]*:(?P<secret>.*)@")
_USER_INFO_ALONE = re.compile(r"(?s)://[^:/?#@\[]*:(?!\d*(?:[/?#\s]|$))(?P<secret>.+)")
_USER_INFO_BARE = re.compile(r"(?s)^[^:@\s]*:(?!\s)(?P<secret>.*)@")
_SECRET = r"(?i)[\w.-]{0,40}(?:pass\w*|pas|pwd|pw|token|secret|key|auth|sig|signature|credentials?|psk)"
_SECRET_FIELD = re.compile(rf"(?s){_SECRET}=(?P<secret>[^&]*)")
_SECRET_PROPERTY = re.compile(
    rf"(?s){_SECRET}\s*=\s*(?P<secret>\"(?:\\.|[^\"\\])*(?:\"|$)|'(?:\\.|[^'\\])*(?:'|$)|(?:\\.|[^\s\\])*)"
)
"""As a pipeline of GStreamer writes them: in quotes, or up to a space, a backslash before what counts for nothing."""

_ADDRESS = re.compile(r"\S*://\S*")


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


def faults_split(spec: str) -> tuple[str, str]:
    """``fault+SOURCE?FAULTS`` as source and faults, the second empty where nothing stands behind a last ``?``."""
    source, _, faults = spec[len(FAULT_PREFIX) :].rpartition("?")
    return source, faults


def mask_passwords(spec: str) -> str:
    """`spec` with every password replaced by ``***``: for names, errors, logs, and whatever else is shown.

    A text that begins with a source or has one in it, such as an error, may be given as well.

    Passwords are what stands between the first ``:`` and the last ``@`` of an address, and the values of fields and of
    GStreamer's properties with a name such as ``password``, ``token`` or ``user-pw``. Where it is not clear where a
    password ends, more is replaced than need be.
    """
    # The "@" of faults is none behind a password; only faults that are well written are told from one, though.
    faulty = _FAULTY.fullmatch(spec)
    if faulty is None:
        return _masked(spec)
    return f"{faulty[1]}{_masked(faulty[2])}{faulty[3]}{_masked(faulty[4] or '')}"


def error_words(error: BaseException) -> str:
    """What `error` says, without passwords.

    Errors of ours name sources with their passwords masked, so that only words that look like an address are looked at;
    of the text of others everything is that might belong to a password.
    """
    if not isinstance(error, MmedgeError):
        return mask_passwords(f"{type(error).__name__}: {error}")
    return mask_text(str(error))


def mask_text(text: str) -> str:
    """`text` with the passwords in whatever looks like an address replaced by ``***``."""
    return _ADDRESS.sub(lambda found: mask_passwords(found[0]), text)


def _masked(spec: str) -> str:
    if spec.lower().startswith(FAULT_PREFIX):
        return spec[: len(FAULT_PREFIX)] + _masked(spec[len(FAULT_PREFIX) :])
    bare = _USER_INFO_BARE.search(spec) if scheme_of(spec) is None else None
    found = [bare or _USER_INFO.search(spec) or _USER_INFO_ALONE.search(spec)]
    found += (_SECRET_PROPERTY if scheme_of(spec) == "gst" else _SECRET_FIELD).finditer(spec)
    # All on the words as they are: a password may look like a field, and a field's value like a password.
    shown, done = "", 0
    for start, end in sorted(match.span("secret") for match in found if match):
        if end > done:
            shown += "" if start < done else spec[done:start] + "***"
            done = end
    return shown + spec[done:]


def scheme_of(spec: str) -> str | None:
    """``rtsp`` of ``rtsp://...``; None where there is no scheme."""
    found = _SCHEME.match(spec)
    return found[1].lower() if found else None


def options_of(spec: str, query: str, known: Collection[str]) -> dict[str, str]:
    """The fields of `query`, the part of `spec` behind the ``?``.

    Raises:
        SourceOpenError: A field is not in `known`, or stands there twice.
    """
    found: dict[str, str] = {}
    for field, text in parse_qsl(query, keep_blank_values=True):
        if field not in known or field in found:
            raise SourceOpenError(
                f"{mask_passwords(spec)}: expected each of {', '.join(known)} at most once, got "
                f"{mask_passwords(field)!r}"
            )
        found[field] = text
    return found


def size_of(spec: str, text: str) -> tuple[int, int]:
    """``1280x720`` as width and height in pixels.

    Raises:
        SourceOpenError: It is none.
    """
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None or not all(1 <= int(side) <= LARGEST_SIDE for side in found.groups()):
        raise SourceOpenError(
            f"{mask_passwords(spec)}: size must be WIDTHxHEIGHT such as 1280x720, each up to {LARGEST_SIDE}, got "
            f"{text!r}"
        )
    return int(found[1]), int(found[2])


def rate_of(spec: str, text: str) -> float:
    """``30`` or ``12.5`` as frames a second.

    Raises:
        SourceOpenError: It is none.
    """
    if re.fullmatch(r"\d{1,4}(\.\d{1,3})?", text) and 0 < float(text) <= _FASTEST:
        return float(text)
    raise SourceOpenError(f"{mask_passwords(spec)}: fps must be a number above 0 and up to {_FASTEST:g}, got {text!r}")


def query_numbers(spec: str, known: dict[str, float]) -> dict[str, float]:
    """The numbers behind the ``?`` of `spec`, over the defaults `known`.

    Raises:
        SourceOpenError: A field is not in `known`, stands there twice, or is no number.
    """
    place, _, query = spec.partition("://")[2].partition("?")
    if place not in ("", "/"):
        raise SourceOpenError(f"{mask_passwords(spec)}: expected nothing but options behind '?'; {GRAMMAR}")
    found: dict[str, float] = {}
    for field, text in options_of(spec, query, known).items():
        try:
            found[field] = float(text)
        except ValueError as error:
            raise SourceOpenError(f"{spec}: {field} must be a number, got {text!r}") from error
    return known | found
