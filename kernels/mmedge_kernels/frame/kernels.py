"""What of the frame path is compiled ahead of time. Sizes are run-time numbers: one kernel serves every camera."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from mmedge_kernels.errors import FrameError
from mmedge_kernels.frame.formats import Color
from mmedge_kernels.frame.settings import Layout, OutputType
from mmedge_kernels.specification import GridAxis, KernelSpec, Parameter

BLOCK_ROWS, BLOCK_COLUMNS, WARPS = 4, 64, 4
"""Threads next to each other read columns next to each other."""

# Bytes from one pixel to the next, and from one channel to the next (for YUYV, from a Y to its chroma).
_STRIDES: dict[str, tuple[int, int]] = {"bgr": (3, 1), "rgb": (3, 1), "grey": (1, 0), "nv12": (1, 0), "yuyv": (2, 1)}
_TYPES: dict[str, str] = {"float32": "fp32", "float16": "fp16", "uint8": "u8"}
_MODULE = "mmedge_kernels.frame.triton"


def first_pass_spec(color: Color, *, vertical: bool) -> KernelSpec:
    """The kernel that reads frames of `color`; vertical: where the vertical pass comes first."""
    column_stride, channel_stride = _STRIDES[color]
    numbers = ("luma_rows", "row_stride", "row_origin", "column_origin", "extent", "rows", "columns", "taps")
    return KernelSpec(
        name=f"frame_first_pass-{color}-{_direction(vertical)}",
        operator="frame_first_pass",
        function=f"{_MODULE}:frame_first_pass",
        parameters=(
            Parameter("frame_ptr", "*u8", aligned=False),
            Parameter("starts_ptr", "*i32"),
            Parameter("weights_ptr", "*i32"),
            *(Parameter(name, "i32", aligned=False) for name in numbers),
            Parameter("picture_ptr", "*u8"),
        ),
        constants={
            "column_stride": column_stride,
            "channel_stride": channel_stride,
            "COLOR": color,
            "VERTICAL": vertical,
            "BLOCK_ROWS": BLOCK_ROWS,
            "BLOCK_COLUMNS": BLOCK_COLUMNS,
        },
        grid=(GridAxis(("rows",), BLOCK_ROWS), GridAxis(("columns",), BLOCK_COLUMNS)),
        warps=WARPS,
    )


def second_pass_spec(dtype: OutputType, layout: Layout, *, grey: bool, vertical: bool) -> KernelSpec:
    """The kernel that writes tensors of `dtype` and `layout`; vertical: the axis that it resamples."""
    numbers = ("rows", "columns", "taps", "count_rows", "count_columns", "height", "width", "top", "left", "pad_value")
    return KernelSpec(
        name=f"frame_second_pass-{_TYPES[dtype]}-{layout}-{'grey' if grey else 'rgb'}-{_direction(vertical)}",
        operator="frame_second_pass",
        function=f"{_MODULE}:frame_second_pass",
        parameters=(
            Parameter("picture_ptr", "*u8"),
            Parameter("starts_ptr", "*i32"),
            Parameter("weights_ptr", "*i32"),
            Parameter("values_ptr", f"*{_TYPES[dtype]}"),
            *(Parameter(name, "i32", aligned=False) for name in numbers),
            Parameter("out_ptr", f"*{_TYPES[dtype]}"),
        ),
        constants={
            "GREY": grey,
            "VERTICAL": vertical,
            "CHANNELS_LAST": layout == "nhwc",
            "BLOCK_ROWS": BLOCK_ROWS,
            "BLOCK_COLUMNS": BLOCK_COLUMNS,
        },
        grid=(GridAxis(("height",), BLOCK_ROWS), GridAxis(("width",), BLOCK_COLUMNS)),
        warps=WARPS,
    )


def kernel_specs(colors: tuple[Color, ...], dtype: OutputType, layout: Layout) -> tuple[KernelSpec, ...]:
    """Every kernel that frames of these colours need on their way to tensors of `dtype` and `layout`."""
    orders = (False, True)
    forms = sorted({color == "grey" for color in colors})
    return (
        *(first_pass_spec(color, vertical=vertical) for color in colors for vertical in orders),
        *(second_pass_spec(dtype, layout, grey=grey, vertical=vertical) for grey in forms for vertical in orders),
    )


def kernel_specs_for_image(contract: Mapping[str, object]) -> tuple[KernelSpec, ...]:
    """The kernels for the image input of a bundle's manifest: cameras give BGR, NV12, YUYV or grey.

    contract: with ``layout`` and ``tensor`` (``dtype``), as the manifest has them. Raises FrameError where it has not.
    """
    tensor = contract.get("tensor")
    dtype: Any = tensor.get("dtype") if isinstance(tensor, Mapping) else None
    layout: Any = contract.get("layout")
    if dtype not in get_args(OutputType) or layout not in get_args(Layout):
        raise FrameError(
            f"an image input must have layout {' or '.join(get_args(Layout))} and a tensor of "
            f"{', '.join(get_args(OutputType))}, got layout {layout!r} and dtype {dtype!r}"
        )
    return kernel_specs(("bgr", "nv12", "yuyv", "grey"), dtype, layout)


def standard_specs(sm: int) -> tuple[KernelSpec, ...]:
    """What the usual cameras need on their way to CLIP, OWLv2 and the built-in model; the same for every `sm`."""
    del sm
    both = (kernel_specs(("bgr", "nv12", "yuyv"), dtype, "nchw") for dtype in ("float16", "float32"))
    return tuple({spec.name: spec for specs in both for spec in specs}.values())


def _direction(vertical: bool) -> str:
    return "vertical" if vertical else "horizontal"
