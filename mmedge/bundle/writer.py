"""Writing a bundle: all of it appears under its name at once, or none of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
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
        BundleWriteError: `out` is something else than a bundle, the folder cannot be made, or writing into it failed
            (disk full, no permission).
    """
    check_target(out)
    folder = _beside(out, "staging")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        yield folder
    except OSError as error:
        raise BundleWriteError(f"{out} was not written: {error}; nothing was left behind") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_target(out: Path) -> None:
    """Refuse to replace a folder that is no bundle.

    Raises:
        BundleWriteError: `out` is one, or names nothing.
    """
    if not out.name or out.name == "..":
        raise BundleWriteError(f"{str(out)!r} is no name for a bundle; expected NAME.mmedge")
    if out.is_dir() and not (out / "manifest.json").is_file():
        raise BundleWriteError(f"{out} is a folder and no bundle: it is not replaced; choose another name")


def _beside(out: Path, what: str) -> Path:
    """A hidden name that no other export uses, on the file system of `out`."""
    return out.parent / f".{out.name}.{uuid.uuid4().hex}.{what}"


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
    check_form(form)
    check_target(out)
    # A link to a bundle stays a link: what it points to is replaced.
    target = out.resolve()
    try:
        if form == "zip":
            pack(folder, target)
        else:
            _sync_files(folder)
            _replace(folder, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise BundleWriteError(f"{out} was not written: {error}; nothing was left behind") from error


def check_form(form: str) -> None:
    """Raises BundleWriteError unless `form` is ``zip`` or ``folder``."""
    if form not in ("zip", "folder"):
        raise BundleWriteError(f"form must be 'zip' or 'folder', got {form!r}")


def pack(folder: Path, out: Path) -> None:
    """Turn a folder bundle into a zip bundle: members stored, manifest first, the same bytes for the same content.

    Raises:
        OSError: `out` cannot be written; it is left as it was.
    """
    temporary = _beside(out, "zip")
    try:
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:
            files = (p for p in folder.rglob("*") if p.is_file())
            for path in sorted(files, key=lambda p: (p.name != "manifest.json", p)):
                info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
                info.external_attr = 0o644 << 16
                info.file_size = path.stat().st_size
                with path.open("rb") as source, archive.open(info, "w") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        _replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(new: Path, out: Path) -> None:
    """Put `new` in the place of `out`: for files one step, with folders two, which are undone on failure."""
    if not out.is_dir() and not new.is_dir():
        new.replace(out)
        return
    aside = _beside(out, "old")
    if out.exists():
        out.rename(aside)
    try:
        new.rename(out)
    except BaseException:
        if aside.exists():
            aside.rename(out)
        raise
    # The new bundle is in place: what cannot be removed of the old one must not be taken for a failure.
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


def _sync_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


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
