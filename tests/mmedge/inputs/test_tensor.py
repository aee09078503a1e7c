"""Tensors of the caller: names, dtypes, shapes and values are what the manifest says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmedge.bundle import TensorInput, TensorSpec
from mmedge.errors import TensorInputError
from mmedge.inputs.tensor import check_tensors

CONTRACT = TensorInput((TensorSpec("window", "float32", ("t", 6)), TensorSpec("valid", "bool", ("t",))))


def good(length: int = 5) -> dict[str, Any]:
    return {"window": np.ones((length, 6), np.float32), "valid": np.ones(length, np.bool_)}


@pytest.mark.parametrize("length", [0, 1, 63])
def test_what_fits_is_copied(length: int) -> None:
    given = good(length)
    checked = check_tensors("imu", CONTRACT, given)
    for name, array in given.items():
        np.testing.assert_array_equal(checked[name], array)
        assert not np.may_share_memory(checked[name], array) or array.size == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"other": np.zeros(1)}, "takes the tensors window, valid; got", id="extra-name"),
        pytest.param({"window": [[0.0] * 6]}, "numpy array, got list", id="list"),
        pytest.param({"window": np.ones((5, 6))}, r"got float64; use .astype\('float32'\)", id="dtype"),
        pytest.param({"window": np.ones((5, 7), np.float32)}, "axis 6 must be 6", id="fixed-axis"),
        pytest.param({"window": np.ones((4, 6), np.float32)}, "axis 't' must be 4", id="named-axis"),
        pytest.param({"window": np.ones(6, np.float32)}, r"got \[6\]", id="rank"),
        pytest.param({"window": np.full((5, 6), np.inf, np.float32)}, "30 that are NaN or infinite", id="infinite"),
        pytest.param({"window": np.full((5, 6), np.nan, np.float32)}, "30 that are NaN", id="nan"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TensorInputError, match=message):
        check_tensors("imu", CONTRACT, {**good(), **change})


def test_a_missing_tensor_is_refused() -> None:
    with pytest.raises(TensorInputError, match="got none"):
        check_tensors("imu", CONTRACT, {})
