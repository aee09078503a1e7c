"""Values by the content they were made of: the most recently used ones, bounded in number and in bytes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


V = TypeVar("V", bound=_Sized)


class ContentCache(Generic[V]):
    """Least recently used values go first. Any thread may use it.

    Args:
        entries: Most values kept.
        nbytes: Most bytes kept; a value that is larger on its own is not kept at all.
    """

    def __init__(self, entries: int, nbytes: int) -> None:
        self._entries = entries
        self._limit = nbytes
        self._held = 0
        self._items: OrderedDict[bytes, V] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._items)

    def get(self, key: bytes) -> V | None:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: bytes, value: V) -> V:
        """Keep `value`, unless another thread was first. Returns the one that is kept."""
        with self._lock:
            if key in self._items:
                return self._items[key]
            if value.nbytes <= self._limit:
                self._items[key] = value
                self._held += value.nbytes
                while len(self._items) > self._entries or self._held > self._limit:
                    self._held -= self._items.popitem(last=False)[1].nbytes
            return value


def content_key(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """BLAKE2b over names, dtypes, shapes and bytes: equal keys mean equal tensors."""
    digest = hashlib.blake2b(digest_size=32)
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.data)
    return digest.digest()
