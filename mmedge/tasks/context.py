"""What tasks share: what they know beside the outputs, and the checks that all outputs pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmedge.errors import TaskError
from mmedge.results import Floats, Stamp

Outputs = Mapping[str, npt.NDArray[Any]]
BoxMapper = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Context:
    """What a task needs to know beside the outputs.

    Attributes:
        labels: The prompts, or None for a model without text.
        to_frame: Boxes (cx, cy, w, h) in 0..1 of the model's picture [..., 4] -> xyxy pixels of it, or None.
        stamp: Called last of all, because it says how long everything took.
    """

    labels: tuple[str, ...] | None
    to_frame: BoxMapper | None
    stamp: Callable[[], Stamp]


def check_finite(outputs: Outputs) -> None:
    """Refuse outputs that hold NaN or infinity: they must never become a normal-looking result.

    Raises:
        TaskError: See above; it names the output.
    """
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = np.count_nonzero(~np.isfinite(array))
            raise TaskError(
                f"output {name!r} holds {bad} of {array.size} values that are NaN or infinite; look at the "
                "input, and try a higher precision: `mmedge verify` checks the bundle on this device"
            )


def as_rows(name: str, array: npt.NDArray[Any], rows: int | None, kind: str) -> Floats:
    """float32 [rows, d] of an output [rows, d]; None for any number of rows.

    Raises:
        TaskError: The shape is another.
    """
    if array.ndim != 2 or rows not in (None, array.shape[0]):
        wanted = "any" if rows is None else rows
        raise TaskError(f"output {name!r} ({kind}) must be [{wanted}, d], got {list(array.shape)}")
    return array.astype(np.float32, copy=False)
