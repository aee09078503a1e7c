"""Writing a bundle: all of it appears under its name at once, or none of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mmedge.bundle.manifest import FileEntry, Manifest
from mmedge.errors import BundleWriteError

_CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder beside `out` in which a bundle is put together; gone afterwards, whatever happens.

    It is on the file system of `out`, so that publishing is a rename and a full disk shows itself here.

    Raises:
        BundleWriteError: It cannot be made, or writing into it failed (disk full, no permission).
    """
    folder = out.parent / f".{out.name}.{os.getpid()}.staging"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
    except OSError as error:
        raise BundleWriteError(f"{out} was not written: {error}; nothing was left behind") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def file_entries(folder: Path) -> dict[str, FileEntry]:
    """Size and hash of every file below `folder` but the manifest, by its name in the bundle."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    return {p.relative_to(folder).as_posix(): _entry(p) for p in paths}


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Write `manifest`, with the size and hash of every file of `folder` filled in, into `folder`: now it is a bundle.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    complete = replace(manifest, files=file_entries(folder))
    with (folder / "manifest.json").open("wb") as file:
        file.write(complete.dumps().encode())
        file.flush()
        os.fsync(file.fileno())
    return complete


def publish(folder: Path, out: Path, *, form: str = "zip") -> None:
    """Put the sealed bundle `folder` in place as `out`; one that is there is replaced at once.

    Args:
        folder: From `staging`, sealed; a folder bundle takes it over.
        out: The bundle's path.
        form: ``zip`` or ``folder``.

    Raises:
        BundleWriteError: `form` is unknown, or `out` cannot be written.
    """
    if form not in ("zip", "folder"):
        raise BundleWriteError(f"form must be 'zip' or 'folder', got {form!r}")
    try:
        if form == "zip":
            pack(folder, out)
        else:
            _swap(folder, out)
        _sync_folder(out.parent)
    except OSError as error:
        raise BundleWriteError(f"{out} was not written: {error}; nothing was left behind") from error


def pack(folder: Path, out: Path) -> None:
    """Turn a folder bundle into a zip bundle: members stored, manifest first, the same bytes for the same content.

    Raises:
        OSError: `out` cannot be written; it is left as it was.
    """
    temporary = out.parent / f".{out.name}.{os.getpid()}.zip"
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            files = (p for p in folder.rglob("*") if p.is_file())
            for path in sorted(files, key=lambda p: (p.name != "manifest.json", p)):
                info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
                info.external_attr = 0o644 << 16
                info.file_size = path.stat().st_size
                with path.open("rb") as source, archive.open(info, "w") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if out.is_dir():
            shutil.rmtree(out)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _swap(folder: Path, out: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    aside = out.parent / f".{out.name}.{os.getpid()}.old"
    if out.exists():
        out.rename(aside)
    try:
        folder.rename(out)
    except OSError:
        if aside.exists():
            aside.rename(out)
        raise
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink(missing_ok=True)


def _entry(path: Path) -> FileEntry:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return FileEntry(path.stat().st_size, digest.hexdigest())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
