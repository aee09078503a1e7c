"""Memory of a process that runs for months."""

from __future__ import annotations

import ctypes
import os

_M_ARENA_MAX = -8
_ARENAS = 2


def limit_arenas() -> bool:
    """Let threads share two of the C library's memory arenas from now on; whether that was done.

    glibc gives up to eight arenas a core to threads, and each keeps what it once needed: frames that are made in one
    thread and freed in another spread over all of them, which looks like a leak for hours. Nothing is done where
    MALLOC_ARENA_MAX or GLIBC_TUNABLES says otherwise, and on systems without glibc.
    """
    if "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        glibc = ctypes.CDLL("libc.so.6")
        return bool(glibc.mallopt(_M_ARENA_MAX, _ARENAS))
    except (OSError, AttributeError):
        return False
