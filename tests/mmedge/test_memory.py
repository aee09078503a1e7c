from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from mmedge.memory import limit_arenas
print(limit_arenas() if sys.argv[1] == "limited" else None, flush=True)
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]
together = threading.Barrier(9)
def work():
    libc.malloc(5000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
together.wait()
out = libc.fdopen(1, b"w")
libc.malloc_info(0, out)
libc.fflush(out)
"""


def arenas(*arguments: str, **settings: str) -> tuple[str, int]:
    """What `limit_arenas` said, and how many arenas eight threads make after that."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=inherited | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\n", 1)[0], done.stdout.count("<heap ")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
def test_threads_share_two_arenas() -> None:
    assert arenas("as it is")[1] > 4
    said, count = arenas("limited")
    assert said == "True"
    assert 1 <= count <= 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
@pytest.mark.parametrize(
    "settings",
    [{"MALLOC_ARENA_MAX": "6"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=6"}],
    ids=["by its variable", "by a tunable"],
)
def test_whoever_set_them_otherwise_is_heard(settings: dict[str, str]) -> None:
    said, count = arenas("limited", **settings)
    assert said == "False"
    assert 2 < count <= 6
