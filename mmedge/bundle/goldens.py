"""Goldens: sample inputs with the source model's own outputs, by which a bundle is checked wherever it runs."""

from __future__ import annotations

import io
import math
import re
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mmedge.errors import BundleFormatError

Array = npt.NDArray[np.generic]

_LIMIT = 1 << 30
_ENTRY = re.compile(r"(\d{1,6})/(.+)\.npy", re.DOTALL)
# What zipfile and numpy have been seen to raise for damaged members.
_DAMAGE = (
    ValueError,
    TypeError,
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class Golden:
    """One sample.

    Attributes:
        inputs: Every input tensor of the model by name.
        outputs: The source model's outputs for them, float32 where the model computes in floating point.
        frame: uint8 [H, W, 3] BGR, of which the source's own processor made the pixel tensor; None where unknown.
        prompts: What the source's own tokenizer made the token tensors of; () where unknown.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    frame: npt.NDArray[np.uint8] | None = None
    prompts: tuple[str, ...] = field(default=())


def write_goldens(goldens: Sequence[Golden]) -> bytes:
    """The goldens as the bytes of a compressed .npz without pickle."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for index, golden in enumerate(goldens):
        arrays.update({f"{index}/input/{name}": np.asarray(a) for name, a in golden.inputs.items()})
        arrays.update({f"{index}/output/{name}": np.asarray(a) for name, a in golden.outputs.items()})
        if golden.frame is not None:
            arrays[f"{index}/frame"] = golden.frame
        if golden.prompts:
            arrays[f"{index}/prompts"] = np.array(golden.prompts, dtype=np.str_)
    buffer = io.BytesIO()
    # np.savez would put the time of day into the file, and before numpy 2 it cannot be told not to pickle.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            # A pixel tensor holds 256 different floats at most: it shrinks to a third.
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def read_goldens(data: bytes) -> list[Golden]:
    """Read goldens written by `write_goldens`.

    Raises:
        BundleFormatError: No .npz, holds pickled objects, unknown entries, or more than 1 GiB of arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(info.file_size for info in archive.infolist())
            if total > _LIMIT:
                raise BundleFormatError(f"goldens.npz unpacks to {total} bytes; at most {_LIMIT} are accepted")
            arrays = {info.filename: _read_array(archive, info) for info in archive.infolist()}
    except _DAMAGE as error:
        raise BundleFormatError(
            f"goldens.npz cannot be read without pickle: {error}; export the bundle again with mmedge"
        ) from error
    return _group(arrays)


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One member. Its header is compared with its size first: a header may claim any shape."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{info.filename} has .npy version {version}, expected (1, 0)")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if math.prod(shape) * dtype.itemsize != info.file_size - file.tell():
            raise ValueError(f"{info.filename} has {info.file_size} bytes, its header says {dtype} {shape}")
    with archive.open(info) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _group(arrays: Mapping[str, Array]) -> list[Golden]:
    parts: dict[int, dict[str, Array]] = {}
    for name, array in arrays.items():
        entry = _ENTRY.fullmatch(name)
        if entry is None:
            raise BundleFormatError(f"goldens.npz: expected entries such as '0/input/NAME.npy', got {name!r:.80}")
        parts.setdefault(int(entry[1]), {})[entry[2]] = array
    return [_golden(number, parts[number]) for number in sorted(parts)]


def _golden(number: int, part: Mapping[str, Array]) -> Golden:
    inputs = {name.removeprefix("input/"): a for name, a in part.items() if name.startswith("input/")}
    outputs = {name.removeprefix("output/"): a for name, a in part.items() if name.startswith("output/")}
    frame, prompts = part.get("frame"), part.get("prompts")
    unknown = len(part) - len(inputs) - len(outputs) - (frame is not None) - (prompts is not None)
    if unknown or not inputs or not outputs:
        raise BundleFormatError(
            f"goldens.npz: sample {number} needs inputs, outputs and nothing else, got {list(part)}"
        )
    if frame is not None and (frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3):
        raise BundleFormatError(f"goldens.npz: frame {number} must be uint8 [H, W, 3], got {frame.dtype} {frame.shape}")
    if prompts is not None and (prompts.dtype.kind != "U" or prompts.ndim != 1):
        raise BundleFormatError(f"goldens.npz: prompts {number} must be str [n], got {prompts.dtype} {prompts.shape}")
    return Golden(
        inputs=inputs,
        outputs=outputs,
        frame=None if frame is None else frame.astype(np.uint8, copy=False),
        prompts=() if prompts is None else tuple(str(p) for p in prompts),
    )
