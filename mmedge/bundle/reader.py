"""Reading a bundle that nobody vouches for: bounded, verified, without pickle, never outside its own tree."""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import tempfile
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol

from mmedge.bundle.goldens import Golden, read_goldens
from mmedge.bundle.manifest import Manifest
from mmedge.errors import BundleError, BundleFormatError, BundleIntegrityError

MAX_BYTES = 16 << 30
"""Largest bundle that is opened unless the caller raises the bound."""

_MAX_FILES = 4096
_MAX_DIRECTORY = 4 << 20
_MAX_MANIFEST = 8 << 20


class _Tree(Protocol):
    """A bundle's files by name: a folder or a zip."""

    def size(self, name: str) -> int | None: ...

    def view(self, name: str) -> memoryview: ...


class Bundle:
    """An open bundle whose files were compared with the manifest. Close it, or use it in a ``with`` statement.

    Attributes:
        path: Where it was opened.
        manifest: What it holds.
    """

    def __init__(self, path: Path, manifest: Manifest, tree: _Tree) -> None:
        self.path = path
        self.manifest = manifest
        self._tree: _Tree | None = tree
        self._unpacked: Path | None = None
        self._resources = ExitStack()

    def read(self, name: str) -> memoryview:
        """The bytes of a file, mapped and not copied.

        Raises:
            BundleFormatError: The manifest does not list it.
            BundleError: The bundle is closed.
        """
        if self._tree is None:
            raise BundleError(f"{self.path} is closed; open it again")
        if name not in self.manifest.files:
            raise BundleFormatError(f"{self.path}: the manifest lists no file {name!r}")
        return self._tree.view(name)

    def weights(self) -> dict[str, memoryview]:
        """The external weight files of the stages, by the name under which the stages' graphs know them."""
        prefix = "stages/"
        names = [n for n in self.manifest.files if n.startswith(prefix) and n.endswith(".bin")]
        return {name.removeprefix(prefix): self.read(name) for name in names}

    def goldens(self) -> list[Golden]:
        """The samples and the source model's outputs for them; [] where the bundle carries none."""
        if "goldens.npz" not in self.manifest.files:
            return []
        return read_goldens(bytes(self.read("goldens.npz")))

    def stages_folder(self) -> Path:
        """A real folder that holds the files of ``stages/``, for engines that read paths.

        A folder bundle gives its own; a zip is unpacked once into a temporary folder that `close` removes.
        """
        if self.path.is_dir():
            return self.path / "stages"
        if self._unpacked is None:
            folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="mmedge-")))
            for name in self.manifest.files:
                if name.startswith("stages/"):
                    target = folder / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(self.read(name))
            self._unpacked = folder / "stages"
        return self._unpacked

    def close(self) -> None:
        """Let go of the files, and remove what `stages_folder` unpacked. Safe to call twice."""
        self._tree = None
        self._resources.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_bundle(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Bundle:
    """Open a bundle, zip or folder, and verify every file of it against the manifest.

    Args:
        path: ``NAME.mmedge``: a stored zip, or a folder of the same tree.
        max_bytes: Bound on the sum of all file sizes.

    Raises:
        BundleError: There is none at `path`, or it cannot be read.
        BundleFormatError: No zip, no manifest, unknown format, or a manifest that breaks a rule.
        BundleIntegrityError: A file is missing, truncated, changed, compressed, too large, or named outside the tree.
    """
    place = Path(path)
    try:
        tree: _Tree = _Folder(place) if place.is_dir() else _Zip(place)
        return Bundle(place, _verify(place, tree, max_bytes), tree)
    except FileNotFoundError as error:
        raise BundleError(f"no bundle at {place}: expected a .mmedge file or folder") from error
    except OSError as error:
        raise BundleError(f"{place} cannot be read: {error}") from error


def _verify(path: Path, tree: _Tree, max_bytes: int) -> Manifest:
    size = tree.size("manifest.json")
    if size is None:
        raise BundleFormatError(f"{path} holds no manifest.json: it is no mmedge bundle, or it is damaged")
    if size > _MAX_MANIFEST:
        raise BundleFormatError(f"{path}: manifest.json has {size} bytes; at most {_MAX_MANIFEST} are accepted")
    manifest = Manifest.loads(bytes(tree.view("manifest.json")))
    total = sum(entry.size for entry in manifest.files.values())
    if total > max_bytes or len(manifest.files) > _MAX_FILES:
        raise BundleIntegrityError(
            f"{path}: {len(manifest.files)} files of {total} bytes; at most {_MAX_FILES} files and {max_bytes} bytes "
            "are accepted (max_bytes= raises the bound)"
        )
    for name, entry in manifest.files.items():
        check_name(name, path)
        found = tree.size(name)
        if found is None:
            raise BundleIntegrityError(f"{path}: {name} is missing; copy or export the bundle again")
        if found != entry.size:
            raise BundleIntegrityError(f"{path}: {name} must have {entry.size} bytes, it has {found}; copy it again")
        if hashlib.sha256(tree.view(name)).hexdigest() != entry.sha256:
            raise BundleIntegrityError(f"{path}: {name} was changed after the manifest was written; copy it again")
    return manifest


def check_name(name: str, path: Path) -> None:
    """Refuse a member name that could lead out of the bundle."""
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or pure.as_posix() != name or ".." in pure.parts or "\\" in name or ":" in name:
        raise BundleIntegrityError(f"{path}: {name!r:.100} is no relative, normalised name; do not trust this bundle")


class _Folder:
    """The files of a folder, mapped on demand and kept mapped. Who may write into the folder can still change them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._views: dict[str, memoryview] = {}

    def size(self, name: str) -> int | None:
        target = self._path / name
        if not target.is_file():
            return None
        if not target.resolve().is_relative_to(self._path.resolve()):
            raise BundleIntegrityError(f"{self._path}: {name} is a link that leads out of the bundle")
        return target.stat().st_size

    def view(self, name: str) -> memoryview:
        if name not in self._views:
            self._views[name] = _map_file(self._path / name)
        return self._views[name]


class _ZipDirectory(io.FileIO):
    """A zip of which only the directory is read, and no more of it than 4096 members may take: millions of names would
    fill the memory before anybody could count them."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY:
            raise BundleIntegrityError(
                f"{self.name}: a directory of {size} bytes; at most {_MAX_DIRECTORY} are accepted"
            )
        return super().read(size)


class _Zip:
    """The members of a stored zip, as slices of one mapping of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole = _map_file(path)
        try:
            with _ZipDirectory(path) as file, zipfile.ZipFile(file) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise BundleFormatError(f"{path} is no bundle, or a truncated one ({error}); copy it again") from error
        if len(members) > _MAX_FILES:
            raise BundleIntegrityError(f"{path}: {len(members)} members; at most {_MAX_FILES} are accepted")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            if member.is_dir():
                continue
            check_name(member.filename, path)
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise BundleIntegrityError(f"{path}: {member.filename} is compressed; members of a bundle are stored")
            if member.filename in self._members:
                raise BundleIntegrityError(f"{path}: {member.filename} is there twice; the bundle is not to be trusted")
            self._members[member.filename] = member

    def size(self, name: str) -> int | None:
        member = self._members.get(name)
        return None if member is None else member.file_size

    def view(self, name: str) -> memoryview:
        member = self._members[name]
        header = self._whole[member.header_offset : member.header_offset + 30]
        if len(header) < 30 or bytes(header[:4]) != b"PK\x03\x04":
            raise BundleIntegrityError(f"{self._path}: the header of {name} is damaged; copy the bundle again")
        names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = member.header_offset + len(header) + names
        data = self._whole[start : start + member.file_size]
        if len(data) != member.file_size:
            raise BundleIntegrityError(f"{self._path}: {name} reaches past the end of the file; copy the bundle again")
        # The manifest vouches for every other file; for itself there is only the zip's own checksum.
        if name == "manifest.json" and zlib.crc32(data) != member.CRC:
            raise BundleIntegrityError(f"{self._path}: {name} is damaged; copy the bundle again")
        return data


def _map_file(path: Path) -> memoryview:
    """Map a file; it stays mapped for as long as somebody holds a view of it."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
