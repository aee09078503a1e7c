"""Opening a kernel pack: sizes and hashes of all files are compared with pack.json before anything is used."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from mmedge_kernels.errors import PackError
from mmedge_kernels.pack.architectures import parse_architecture, runs_on, why_not
from mmedge_kernels.pack.launch import LoadedKernel, current_sm, load_kernel
from mmedge_kernels.pack.manifest import Manifest, PackedFile, PackedKernel
from mmedge_kernels.specification import Constant

MANIFEST = "pack.json"

_LARGEST_MANIFEST = 16 << 20


class KernelPack:
    """An open pack whose files were compared with their hashes.

    path: its folder. manifest: what it holds. Files are kept in memory, so that what runs is what was verified.
    """

    def __init__(self, path: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
        self.path = path
        self.manifest = manifest
        self._files = files

    @property
    def kernels(self) -> tuple[PackedKernel, ...]:
        return self.manifest.kernels

    def read(self, file: PackedFile) -> bytes:
        """The verified bytes of `file`. Raises PackError when the pack has no such file."""
        if file.file not in self._files:
            raise PackError(f"{self.path} has no file {file.file!r}; take one of a kernel of this pack")
        return self._files[file.file]

    def find(self, operator: str, sm: int, **wanted: Constant) -> PackedKernel:
        """The one kernel of `operator` that runs on `sm` and has what is wanted.

        wanted: values of constants by their names, and types of parameters by theirs: ``L=8, x_ptr="*fp16"``.
        Code for `sm` itself is preferred to code for a lower one. Raises PackError when none or several fit.
        """
        fitting = [k for k in self.kernels if k.operator == operator and _has(k, wanted)]
        what = ", ".join([operator, *(f"{name}={value!r}" for name, value in wanted.items())])
        running = self.running_on(fitting, sm, what)
        if len(running) > 1:
            names = ", ".join(kernel.name for kernel in running)
            raise PackError(f"{self.path}: several kernels fit {what}: {names}; say more of what is wanted")
        return running[0]

    def load(self, name: str) -> LoadedKernel:
        """The kernel called `name`, loaded into the current CUDA context.

        Raises PackError when the pack has none for the GPU of this context, when PyCUDA is missing, or when the driver
        is too old or refuses the code.
        """
        kernel = self.named(name, current_sm())
        return load_kernel(kernel, self.read(kernel.cubin))

    def named(self, name: str, sm: int) -> PackedKernel:
        """The kernel called `name` with code that runs on `sm`. Raises PackError when there is none."""
        return self.running_on([k for k in self.kernels if k.name == name], sm, f"name {name!r}")[0]

    def running_on(self, kernels: Iterable[PackedKernel], sm: int, what: str) -> list[PackedKernel]:
        """Those of `kernels` that run on `sm`, of each name the one with the nearest architecture.

        what: what was asked for, for the message. Raises PackError when none is left.
        """
        kernels = list(kernels)
        best: dict[str, PackedKernel] = {}
        for kernel in kernels:
            if runs_on(kernel.architecture, sm) and (kernel.name not in best or kernel.sm > best[kernel.name].sm):
                best[kernel.name] = kernel
        if best:
            return list(best.values())
        make = f"python -m mmedge_kernels.aot --target sm_{sm} --out {shlex.quote(str(self.path))}"
        if not kernels:
            raise PackError(
                f"{self.path} has no kernel that fits {what}; the standard kernels are made by: {make}, others by "
                "mmedge_kernels.aot.build_pack(..., specs=...)"
            )
        others = sorted({k.architecture for k in kernels}, key=parse_architecture)
        reasons = ", ".join(f"{architecture} ({why_not(architecture, sm)})" for architecture in others)
        raise PackError(
            f"{self.path}: {what} is there for {reasons}, which does not run on this GPU of sm_{sm}; make a pack for "
            f"it: {make}"
        )


def open_pack(path: str | os.PathLike[str]) -> KernelPack:
    """Open the pack in the folder `path` and verify every file of it.

    Raises PackError: no pack there, unknown format, a manifest that breaks a rule, or a file that is missing, has
    another size or another hash.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    files: dict[str, bytes] = {}
    for kernel in manifest.kernels:
        for entry in (kernel.cubin, kernel.ptx):
            if entry is not None:
                files[entry.file] = _verified(folder, entry)
    return KernelPack(folder, manifest, files)


def read_manifest(folder: Path) -> Manifest:
    """pack.json of `folder`, without a look at the other files. Raises PackError."""
    place = folder / MANIFEST
    try:
        if place.stat().st_size > _LARGEST_MANIFEST:
            raise PackError(f"{place} is larger than {_LARGEST_MANIFEST} bytes: it is no kernel pack")
        return Manifest.loads(place.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PackError(f"no kernel pack at {folder}: expected a folder with {MANIFEST}") from error
    except UnicodeDecodeError as error:
        raise PackError(f"{place} is no text: {error}; copy or make the pack again") from error
    except OSError as error:
        raise PackError(f"{place} cannot be read: {error}") from error


def _verified(folder: Path, entry: PackedFile) -> bytes:
    place = folder / entry.file
    try:
        size = place.stat().st_size
        data = place.read_bytes() if size == entry.size else b""
    except FileNotFoundError as error:
        raise PackError(f"{folder} lacks {entry.file}; copy or make the pack again") from error
    except OSError as error:
        raise PackError(f"{place} cannot be read: {error}") from error
    if size != entry.size:
        raise PackError(f"{place} must have {entry.size} bytes, it has {size}; copy or make the pack again")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise PackError(f"{place} does not have the hash that {MANIFEST} names: changed or damaged; copy it again")
    return data


def _has(kernel: PackedKernel, wanted: dict[str, Constant]) -> bool:
    types: dict[str, Constant] = {parameter.name: parameter.type for parameter in kernel.parameters}
    has = {**types, **kernel.constants}
    return all(name in has and _same(has[name], value) for name, value in wanted.items())


def _same(a: Constant, b: Constant) -> bool:
    """Equal, and True is not 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)
