"""What was built or measured on this machine, kept between runs.

An entry is a file that begins with the hash of the rest, so that what a crash, a bad disk or another program made of it
is noticed and thrown away. It appears under its name by a rename, complete or not at all. The hash guards against
damage and not against malice: engines run what they find here, so the folder must belong to the user who runs them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmedge.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("mmedge")

MAX_BYTES = 4 << 30
"""Bound on the entries of one kind."""

_MAGIC = b"mmedge cache 1\n"
_HEADER = len(_MAGIC) + hashlib.sha256().digest_size
_SUFFIX = ".entry"
_TEMPORARY = ".part"
_ABANDONED_S = 3600.0
_KEY = re.compile(r"[0-9a-f]{16,128}")
_KIND = re.compile(r"[A-Za-z0-9_\-]+")

_in_process = threading.RLock()
"""Stands in for locks between processes where there are none."""


def cache_key(**parts: str) -> str:
    """A key (64 hex digits) that is another one as soon as any part is.

    Raises:
        InputError: A part is no string.
    """
    digest = hashlib.sha256()
    for name in sorted(parts):
        if not isinstance(parts[name], str):
            raise InputError(f"part {name!r} of a cache key must be a string, got {type(parts[name]).__name__}")
        for text in (name, parts[name]):
            data = text.encode(errors="surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def cache_folder() -> Path | None:
    """$MMEDGE_CACHE_DIR, else $XDG_CACHE_HOME/mmedge, else ~/.cache/mmedge; None where there is no home either."""
    named = os.environ.get("MMEDGE_CACHE_DIR")
    if named:
        return Path(named)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():
        return shared / "mmedge"
    try:
        return Path.home() / ".cache" / "mmedge"
    except RuntimeError:
        return None


class DiskCache:
    """Bytes by key, for all processes of a user. Any thread may use it.

    What cannot be kept (a full disk, a folder that cannot be written) is said once in the log, and made anew next time.

    Args:
        kind: What is kept, such as ``tensorrt``; the name of a subfolder.
        folder: Where; None for `cache_folder`.
        max_bytes: Bound on the size of all entries of this kind; those not used for longest are removed first.

    Attributes:
        folder: The folder of this kind, which may not exist; None where no place for one is known.

    Raises:
        InputError: `kind` is no plain name.
    """

    def __init__(self, kind: str, folder: Path | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise InputError(f"kind must be a name of letters, digits, '-' and '_', got {kind!r:.80}")
        base = cache_folder() if folder is None else Path(folder)
        self.folder = None if base is None else base / kind
        self._max_bytes = max_bytes
        self._warned = False

    def get(self, key: str) -> bytes | None:
        """The entry; None where there is none. A damaged one is deleted, and None as well.

        Raises:
            InputError: `key` is not made by `cache_key`.
        """
        path = self._path(key)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"cache entry {path} cannot be read: {error}")
            return None
        data = content[_HEADER:]
        if content[:_HEADER] != _header(data):
            _log.warning("cache entry %s is damaged; it is deleted and made again", path)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return data

    def put(self, key: str, data: bytes) -> bool:
        """Keep `data`. Returns whether it is kept; if not, the log says why.

        Raises:
            InputError: `key` is not made by `cache_key`.
        """
        path = self._path(key)
        if path is None:
            self._warn("there is no folder for a cache: set MMEDGE_CACHE_DIR")
            return False
        if len(data) + _HEADER > self._max_bytes:
            self._warn(f"{len(data)} bytes are not cached: at most {self._max_bytes} are kept")
            return False
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(path, len(data) + _HEADER)
            _write(path, data)
        except OSError as error:
            self._warn(f"nothing is cached in {path.parent}: {error}; free some space or set MMEDGE_CACHE_DIR")
            return False
        return True

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold `key`, so that two processes or threads do not make the same entry at once. Waits as long as it takes.

        The lock is gone when its process is, however that ended. Where the folder or the platform gives no lock, other
        processes are not held back: work may then be done twice, and entries are still whole.

        Raises:
            InputError: `key` is not made by `cache_key`.
        """
        path = self._path(key)
        descriptor = None if path is None or fcntl is None else self._lock(path.with_suffix(".lock"))
        if descriptor is None or path is None:
            with _in_process:
                yield
            return
        try:
            yield
        finally:
            # Removed while it is held: whoever waits for it sees that the file has lost its name, and takes a new one.
            with suppress(OSError):
                path.with_suffix(".lock").unlink()
            os.close(descriptor)

    def _lock(self, path: Path) -> int | None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    if _is_at(descriptor, path):
                        return descriptor
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
        except OSError as error:
            self._warn(f"no lock between processes in {path.parent}: {error}")
            return None

    def _path(self, key: str) -> Path | None:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise InputError(f"a cache key must be made by cache_key(), got {key!r:.80}")
        return None if self.folder is None else self.folder / f"{key}{_SUFFIX}"

    def _make_room(self, path: Path, size: int) -> None:
        """Remove what was not used for longest, and what killed processes left half-written."""
        entries: list[tuple[float, int, Path]] = []
        for other in path.parent.iterdir():
            with suppress(FileNotFoundError):
                state = other.stat()
                if other.suffix == _TEMPORARY and time.time() - state.st_mtime > _ABANDONED_S:
                    other.unlink()
                elif other.suffix == _SUFFIX and other != path:
                    entries.append((state.st_mtime, state.st_size, other))
        held = size + sum(entry[1] for entry in entries)
        for _, freed, other in sorted(entries):
            if held <= self._max_bytes:
                break
            with suppress(FileNotFoundError):
                other.unlink()
            held -= freed

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("%s", message)


def _header(data: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(data).digest()


def _write(path: Path, data: bytes) -> None:
    """Under another name first: whoever reads `path` finds the old entry, the new one or none."""
    descriptor, name = tempfile.mkstemp(suffix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_header(data))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
