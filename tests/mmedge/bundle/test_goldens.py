"""Goldens survive writing and reading, and are the same bytes whenever they are written."""

from __future__ import annotations

import io
import time
import zipfile

import numpy as np
import pytest

from mmedge.bundle import Golden, read_goldens, write_goldens
from mmedge.errors import BundleFormatError


def sample(dtype: type[np.generic]) -> Golden:
    return Golden(
        inputs={"x/y": np.arange(6).astype(dtype).reshape(2, 3), "empty": np.zeros((0, 4), dtype)},
        outputs={"scalar": np.array(3, dtype)},
        frame=np.arange(45, dtype=np.uint8).reshape(5, 3, 3),
        prompts=("a red thing", "日本語 🙂"),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_])
def test_goldens_survive(dtype: type[np.generic]) -> None:
    samples = [sample(dtype), Golden({"x": np.ones(2, dtype)}, {"y": np.ones(1, dtype)})]
    for wanted, got in zip(samples, read_goldens(write_goldens(samples)), strict=True):
        assert got.prompts == wanted.prompts
        assert (got.frame is None) == (wanted.frame is None)
        for ours, theirs in ((got.inputs, wanted.inputs), (got.outputs, wanted.outputs)):
            assert list(ours) == list(theirs)
            for name in theirs:
                np.testing.assert_array_equal(ours[name], theirs[name], strict=True)


def test_the_time_of_day_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_goldens([sample(np.float32)])
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert write_goldens([sample(np.float32)]) == first


def test_more_than_ten_samples_keep_their_order() -> None:
    samples = [Golden({"x": np.array([i])}, {"y": np.array([i])}) for i in range(23)]
    assert [int(g.inputs["x"][0]) for g in read_goldens(write_goldens(samples))] == list(range(23))


def test_damaged_goldens_are_one_typed_error_whatever_byte_was_hit() -> None:
    golden = Golden({"x": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"y": np.ones(3, np.float32)}, prompts=("a",))
    data = write_goldens([golden])
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] ^= int(random.integers(1, 256))
        try:
            read_goldens(bytes(damaged))
        except BundleFormatError:
            refused += 1
    assert refused > 750


def test_a_header_that_claims_more_than_there_is_is_refused() -> None:
    buffer = io.BytesIO()
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1125899906842624,), }"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("0/input/x.npy", member)
        archive.writestr("0/output/y.npy", member)
    with pytest.raises(BundleFormatError, match="header says"):
        read_goldens(buffer.getvalue())
