"""Writing a kernel pack: all of it appears under its name at once, or none of it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmedge_kernels.aot.compile import CompiledKernel
from mmedge_kernels.aot.targets import Target, Version
from mmedge_kernels.errors import PackError
from mmedge_kernels.pack.manifest import Manifest, PackedFile, PackTarget
from mmedge_kernels.pack.reading import MANIFEST


def write_pack(out: Path, compiled: Iterable[CompiledKernel], targets: Iterable[Target]) -> None:
    """Write the pack `out`, a folder; a pack that is there is replaced.

    The same kernels give the same bytes. Raises PackError when `out` is something else than a pack, or cannot be
    written (disk full, no permission); what was there is then left as it was.
    """
    kernels = sorted(compiled, key=lambda c: (c.kernel.operator, c.kernel.name, c.kernel.sm))
    check_place(out)
    try:
        place = out.resolve()  # a link to a pack stays a link
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = _beside(place, "new")
        try:
            folder.mkdir()
            _fill(folder, kernels, targets)
            _put_in_place(folder, place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise PackError(f"{out} was not written: {error}; what was there is unchanged") from error


def check_place(out: Path) -> None:
    """Raises PackError when `out` is something else than a kernel pack, or names nothing."""
    if out.name in ("", ".."):
        raise PackError(f"{str(out)!r} is no name for a pack; take a folder of its own")
    if out.exists() and not (out / MANIFEST).is_file():
        raise PackError(f"{out} is there and is no kernel pack: it is not replaced; take another name")


def _fill(folder: Path, kernels: Sequence[CompiledKernel], targets: Iterable[Target]) -> None:
    for compiled in kernels:
        _write(folder, compiled.kernel.cubin, compiled.cubin)
        if compiled.kernel.ptx is not None and compiled.ptx is not None:
            _write(folder, compiled.kernel.ptx, compiled.ptx)
    manifest = Manifest(
        producer={"triton": ", ".join(sorted({compiled.triton for compiled in kernels}))},
        targets=tuple(PackTarget(t.name, t.sms, _text(t.cuda), _text(t.ptx)) for t in targets),
        kernels=tuple(compiled.kernel for compiled in kernels),
    )
    _write_bytes(folder / MANIFEST, manifest.dumps().encode())
    _sync(folder)


def _put_in_place(new: Path, place: Path) -> None:
    """A folder cannot be swapped in one step: the old one steps aside, and comes back when the new one cannot come."""
    aside = _beside(place, "old")
    replaces = place.exists()
    if replaces:
        place.rename(aside)
    try:
        new.rename(place)
        _sync(place.parent)
    except BaseException:
        if not new.exists():
            place.rename(new)
        if replaces:
            aside.rename(place)
        raise
    shutil.rmtree(aside, ignore_errors=True)  # what is left of the old pack is no failure of the new one


def _beside(place: Path, what: str) -> Path:
    return place.parent / f".{place.name}.{uuid.uuid4().hex}.{what}"


def _write(folder: Path, entry: PackedFile, data: bytes) -> None:
    _write_bytes(folder / entry.file, data)


def _write_bytes(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
