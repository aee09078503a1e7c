"""Fit an affine map of rows to code that computes it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_EXACT = 1e-9


def fit(
    one: Callable[[Array], Array], all_of: Callable[[Array], Array], shape: tuple[int, int, int]
) -> tuple[Array, Array | None] | None:
    """Fit [M, D] -> [H, M, d] by one weight [H, D, d] and one bias [H, d] for all tokens of the batch.

    Args:
        one: The map for one of the batch.
        all_of: The map of [B, M, D] to [B, H, M, d].
        shape: (B, M, D).

    Returns:
        None if the map is another one for some token, or for another of the batch.
    """
    _, tokens, width = shape
    try:
        still = one(np.zeros((tokens, width)))
        bias, columns = still[:, 0], []
        for start in range(0, width, tokens):
            rows = np.zeros((tokens, width))
            count = min(tokens, width - start)
            rows[np.arange(count), start + np.arange(count)] = 1.0
            columns.append((one(rows) - still)[:, :count])
        weight = np.concatenate(columns, axis=1)
        given = np.random.default_rng(0).standard_normal(shape)
        expected, found = np.einsum("bmi,hij->bhmj", given, weight) + bias[:, None], all_of(given)
        if found.shape[0] != expected.shape[0]:  # one image for many prompts, spread on the way
            found = found[:1] if (found == found[:1]).all() else found
    except (ValueError, RuntimeError, IndexError):
        return None  # the layout that was tried does not fit the nodes
    if found.shape != expected.shape or np.abs(found - expected).max() > _EXACT * np.abs(expected).max():
        return None
    return weight, bias if bias.any() else None
