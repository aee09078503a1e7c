"""The frame path on torch tensors: `triton.py`'s two passes, with their tables on the frame's device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmedge_kernels.frame.coefficients import AxisWeights
from mmedge_kernels.frame.kernels import BLOCK_COLUMNS, BLOCK_ROWS, WARPS
from mmedge_kernels.frame.tables import FrameTables
from mmedge_kernels.frame.triton import frame_first_pass, frame_second_pass
from mmedge_kernels.tensors import on_device


class GpuPlan:
    """`FrameTables` on one device. Runs may overlap, also on several streams."""

    def __init__(self, tables: FrameTables, device: torch.device) -> None:
        self._tables = tables
        first, second = tables.horizontal, tables.vertical
        if tables.vertical_first:
            first, second = second, first
        self._first = _on_device(first, device)
        self._second = _on_device(second, device)
        self._values = torch.from_numpy(np.ascontiguousarray(tables.values)).to(device)
        self._device = device

    def _picture_size(self) -> tuple[int, int]:
        """(rows, columns) after the first pass."""
        rows, columns = self._tables.vertical, self._tables.horizontal
        if self._tables.vertical_first:
            return len(rows.starts), columns.extent
        return rows.extent, len(columns.starts)

    def run(self, frame: Tensor, out: Tensor) -> None:
        """Writes the tensor of `frame` into `out`; shapes, dtypes and devices are checked by the caller."""
        rows, columns = self._picture_size()
        grid = (-(-rows // BLOCK_ROWS), -(-columns // BLOCK_COLUMNS))
        geometry, settings = self._tables.geometry, self._tables.settings
        vertical, horizontal = self._tables.vertical, self._tables.horizontal
        height, width = geometry.size
        strides = (*frame.stride(), 0)[:3]
        # Taken anew: torch's allocator is quick and knows streams, and a kept one would be written by two runs at once.
        planes = 1 if settings.color == "grey" else 3
        picture = torch.empty((planes, rows, columns), dtype=torch.uint8, device=self._device)
        with on_device(self._device):
            frame_first_pass[grid](
                frame, *self._first, geometry.vertical.source, *strides, vertical.origin, horizontal.origin,
                (vertical if self._tables.vertical_first else horizontal).extent, rows, columns,
                self._first[1].shape[0], picture,
                COLOR=settings.color, VERTICAL=self._tables.vertical_first,
                BLOCK_ROWS=BLOCK_ROWS, BLOCK_COLUMNS=BLOCK_COLUMNS, num_warps=WARPS,
            )  # fmt: skip
            frame_second_pass[(-(-height // BLOCK_ROWS), -(-width // BLOCK_COLUMNS))](
                picture, *self._second, self._values, rows, columns, self._second[1].shape[0],
                len(vertical.starts), len(horizontal.starts), height, width,
                geometry.vertical.pad_start, geometry.horizontal.pad_start, settings.pad_value, out,
                GREY=settings.color == "grey", VERTICAL=not self._tables.vertical_first,
                CHANNELS_LAST=settings.layout == "nhwc",
                BLOCK_ROWS=BLOCK_ROWS, BLOCK_COLUMNS=BLOCK_COLUMNS, num_warps=WARPS,
            )  # fmt: skip


def _on_device(axis: AxisWeights, device: torch.device) -> tuple[Tensor, Tensor]:
    """starts int32 [count] and weights int32 [taps, count]."""
    starts = torch.from_numpy(axis.starts.astype(np.int32)).to(device)
    return starts, torch.from_numpy(np.ascontiguousarray(axis.weights.T)).to(device)
