"""The cache on disk: damage, crashes, crowds and full disks cost time and nothing else."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmedge import cache as module
from mmedge.cache import DiskCache, cache_folder, cache_key
from mmedge.errors import InputError

KEY = cache_key(stage="image", version="1")
DATA = np.random.default_rng(4).bytes(50_000)


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache("things", tmp_path)


def entry(cache: DiskCache, key: str = KEY) -> Path:
    assert cache.folder is not None
    return cache.folder / f"{key}.entry"


def names(folder: Path | None) -> list[str]:
    assert folder is not None
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=["empty", "byte", "large"])
def test_what_is_put_comes_back(cache: DiskCache, tmp_path: Path, data: bytes) -> None:
    assert cache.get(KEY) is None
    assert cache.put(KEY, data)
    assert DiskCache("things", tmp_path).get(KEY) == data
    assert DiskCache("others", tmp_path).get(KEY) is None
    assert names(cache.folder) == [f"{KEY}.entry"]


def test_a_later_entry_replaces_the_first(cache: DiskCache) -> None:
    assert cache.put(KEY, b"first")
    assert cache.put(KEY, b"second")
    assert cache.get(KEY) == b"second"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: whole[:-1], id="truncated"),
        pytest.param(lambda whole: whole + b"\0", id="longer"),
        pytest.param(lambda whole: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], id="one bit"),
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: bytes(len(whole)), id="zeros"),
        pytest.param(lambda whole: b"x" + whole[1:], id="header"),
    ],
)
def test_a_damaged_entry_is_deleted_and_can_be_made_again(
    cache: DiskCache, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(KEY, DATA)
    entry(cache).write_bytes(damage(entry(cache).read_bytes()))
    with caplog.at_level(logging.WARNING, "mmedge"):
        assert cache.get(KEY) is None
    assert "damaged" in caplog.text
    assert not entry(cache).exists()
    assert cache.put(KEY, DATA)
    assert cache.get(KEY) == DATA


def test_a_key_is_another_one_when_any_part_is() -> None:
    keys = [
        cache_key(a="1", b="2"),
        cache_key(a="12", b=""),
        cache_key(a="1", c="2"),
        cache_key(a="1"),
        cache_key(b="1", a="2"),
        cache_key(a="1", b="2 "),
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key(b="2", a="1") == keys[0]


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "a" * 15, KEY.upper(), KEY + "/", None, b"a" * 64])
def test_a_key_that_is_none_is_refused(cache: DiskCache, key: Any) -> None:
    with pytest.raises(InputError, match="made by cache_key"):
        cache.get(key)
    with pytest.raises(InputError, match="made by cache_key"):
        cache.put(key, b"")
    with pytest.raises(InputError, match="made by cache_key"), cache.locked(key):
        pass


@pytest.mark.parametrize("kind", ["", "a/b", "..", None])
def test_a_kind_that_is_no_name_is_refused(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kind must be a name"):
        DiskCache(kind, tmp_path)


def test_a_part_that_is_no_string_is_refused() -> None:
    with pytest.raises(InputError, match="part 'threads'"):
        cache_key(threads=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"MMEDGE_CACHE_DIR": "/one", "XDG_CACHE_HOME": "/two", "HOME": "/three"}, "/one"),
        ({"XDG_CACHE_HOME": "/two", "HOME": "/three"}, "/two/mmedge"),
        ({"XDG_CACHE_HOME": "not/absolute", "HOME": "/three"}, "/three/.cache/mmedge"),
        ({"MMEDGE_CACHE_DIR": "", "HOME": "/three"}, "/three/.cache/mmedge"),
    ],
)
def test_where_the_cache_is(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MMEDGE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MMEDGE_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    cache = DiskCache("things")
    with cache.locked(KEY):
        assert not cache.put(KEY, DATA)
    assert cache.get(KEY) is None
    assert "set MMEDGE_CACHE_DIR" in caplog.text


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = DiskCache("things", tmp_path, max_bytes=4000)
    keys = [cache_key(number=str(number)) for number in range(4)]
    for age, key in enumerate(keys[:3]):
        cache.put(key, bytes(1000))
        os.utime(entry(cache, key), (1000.0 + age, 1000.0 + age))
    assert cache.get(keys[0]) is not None
    assert cache.put(keys[3], bytes(1000))
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.entry")) <= 4000


def test_an_entry_beyond_the_bound_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache("things", tmp_path, max_bytes=4000)
    assert cache.put(KEY, b"small")
    other = cache_key(other="one")
    assert not cache.put(other, bytes(4000))
    assert (cache.get(KEY), cache.get(other)) == (b"small", None)
    assert "at most 4000 are kept" in caplog.text


def test_what_a_killed_process_left_is_removed_when_it_is_old(cache: DiskCache) -> None:
    cache.put(KEY, DATA)
    fresh, old = entry(cache).with_name("a.part"), entry(cache).with_name("b.part")
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (1000.0, 1000.0))
    cache.put(cache_key(other="one"), b"")
    assert fresh.exists()
    assert not old.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB; needs the right to mount one."""
    place = tmp_path / "small"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", bytes(place), b"tmpfs", 0, b"size=100k") != 0:
        pytest.skip(f"no right to mount a small file system: {os.strerror(ctypes.get_errno())}")
    yield place
    libc.umount2(bytes(place), 2)


def test_a_full_disk_is_a_warning_and_nothing_is_lost(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache("things", small_disk)
    assert cache.put(KEY, DATA)
    for number in range(3):
        assert not cache.put(cache_key(number=str(number)), DATA + DATA)
    assert cache.get(KEY) == DATA
    assert names(cache.folder) == [f"{KEY}.entry"]
    assert caplog.text.count("No space left") == 1


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_disk_that_fails_at_the_last_moment_leaves_nothing(
    cache: DiskCache, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert cache.put(KEY, b"before")
    monkeypatch.setattr(module.os, broken, fail)
    assert not cache.put(KEY, DATA)
    monkeypatch.undo()
    assert cache.get(KEY) == b"before"
    assert names(cache.folder) == [f"{KEY}.entry"]
    assert caplog.text.count("No space left") == 1


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    cache = DiskCache("things", file / "below")
    with cache.locked(KEY):
        assert not cache.put(KEY, DATA)
    assert cache.get(KEY) is None
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_without_file_locks_threads_still_take_turns(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "fcntl", None)
    entered = threading.Event()

    def enter() -> None:
        with cache.locked(KEY):
            entered.set()

    other = threading.Thread(target=enter)
    with cache.locked(KEY), cache.locked(cache_key(other="one")):
        other.start()
        assert not entered.wait(0.1)
        assert cache.put(KEY, DATA)
    other.join(30)
    assert entered.is_set()
    assert names(cache.folder) == [f"{KEY}.entry"]


# What the other processes do. Each says on its standard output when it is where the test wants it.
PROCESS = """
import os, sys, time
from pathlib import Path
from mmedge import cache as module
from mmedge.cache import DiskCache
what, folder, key = sys.argv[1:]
cache = DiskCache("things", Path(folder))
def say(word):
    print(word, flush=True)
if what == "holding":
    with cache.locked(key):
        say("holding")
        time.sleep(600)
elif what == "writing":
    real = os.fsync
    def slow(descriptor):
        say("writing")
        time.sleep(600)
    module.os.fsync = slow
    with cache.locked(key):
        cache.put(key, bytes(100_000))
elif what == "counting":
    say("counting")
    for _ in range(40):
        with cache.locked(key):
            number = int(cache.get(key) or b"0")
            cache.put(key, str(number + 1).encode())
"""


def start(what: str, cache: DiskCache) -> subprocess.Popen[str]:
    assert cache.folder is not None
    command = [sys.executable, "-c", PROCESS, what, str(cache.folder.parent), KEY]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("what", ["holding", "writing"])
def test_a_killed_process_leaves_the_cache_usable(cache: DiskCache, what: str) -> None:
    cache.put(KEY, b"before")
    with start(what, cache) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == what
        assert cache.get(KEY) == b"before"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        with cache.locked(KEY):
            assert cache.get(KEY) == b"before"
            assert cache.put(KEY, b"after")
    assert cache.get(KEY) == b"after"
    assert not entry(cache).with_suffix(".lock").exists()


def test_a_lock_holds_other_processes_back(cache: DiskCache) -> None:
    with cache.locked(KEY), start("counting", cache) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "counting"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert cache.get(KEY) is None
        process.kill()


def test_two_processes_at_once_do_not_collide(cache: DiskCache) -> None:
    processes = [start("counting", cache) for _ in range(2)]
    for process in processes:
        with process:
            assert process.wait(60) == 0
    assert cache.get(KEY) == b"80"
    assert names(cache.folder) == [f"{KEY}.entry"]
