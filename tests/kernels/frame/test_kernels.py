"""The frame path's kernels that are compiled ahead of time, run in the interpreter as they are specified."""

from __future__ import annotations

import numpy as np
import pytest

from mmedge_kernels.errors import FrameError
from mmedge_kernels.frame import FrameSettings, frame_to_tensor
from mmedge_kernels.frame.kernels import kernel_specs, kernel_specs_for_image, standard_specs
from mmedge_kernels.frame.tables import frame_tables

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
from support.interpreter import launch_specification  # noqa: E402

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


@pytest.mark.parametrize(("height", "width"), [(30, 44), (100, 18)], ids=["horizontal", "vertical"])
@pytest.mark.parametrize("color", ["bgr", "grey", "nv12", "yuyv"])
def test_two_launches_make_a_tensor(random_frame, color, height, width):
    chosen = FrameSettings(size=(12, 16), resize="letterbox", mean=MEAN, std=STD, color=color, pad_value=114)
    tables = frame_tables(chosen, height, width)
    frame = random_frame(color, height, width)
    first, second = tables.horizontal, tables.vertical
    rows, columns = tables.vertical.extent, len(tables.horizontal.starts)
    if tables.vertical_first:
        first, second = second, first
        rows, columns = len(tables.vertical.starts), tables.horizontal.extent
    picture = torch.zeros(3, rows, columns, dtype=torch.uint8)
    out = torch.full(tables.out_shape, torch.nan)
    specs = {spec.operator: spec for spec in specs_of(color, tables.vertical_first)}
    common = {"rows": rows, "columns": columns, "picture_ptr": picture}
    launch_specification(
        specs["frame_first_pass"],
        common | axis(first) | {"frame_ptr": torch.from_numpy(frame.copy()), "luma_rows": height}
        | {"row_stride": frame.strides[0], "extent": first.extent}
        | {"row_origin": tables.vertical.origin, "column_origin": tables.horizontal.origin},
    )  # fmt: skip
    geometry = tables.geometry
    launch_specification(
        specs["frame_second_pass"],
        common | axis(second) | {"values_ptr": torch.from_numpy(np.ascontiguousarray(tables.values)), "out_ptr": out}
        | {"count_rows": len(tables.vertical.starts), "count_columns": len(tables.horizontal.starts)}
        | {"height": geometry.size[0], "width": geometry.size[1], "pad_value": chosen.pad_value}
        | {"top": geometry.vertical.pad_start, "left": geometry.horizontal.pad_start},
    )  # fmt: skip
    expected = frame_to_tensor(frame, size=(12, 16), resize="letterbox", mean=MEAN, std=STD, color=color, pad_value=114)
    np.testing.assert_array_equal(out.numpy(), expected)


def specs_of(color, vertical_first):
    """The two kernels for this order of the passes, as their names say."""
    found = kernel_specs((color,), "float32", "nchw")
    wanted = ("vertical", "horizontal") if vertical_first else ("horizontal", "vertical")
    return [spec for spec in found if spec.name.endswith(wanted["second" in spec.operator])]


def axis(weights):
    taps = torch.from_numpy(np.ascontiguousarray(weights.weights.T))
    starts = torch.from_numpy(weights.starts.astype(np.int32))
    return {"starts_ptr": starts, "weights_ptr": taps, "taps": taps.shape[0]}


def test_a_bundle_gets_the_kernels_of_its_image_input():
    specs = kernel_specs_for_image({"layout": "nhwc", "tensor": {"dtype": "float16", "name": "pixels"}})
    assert all(spec.constants["CHANNELS_LAST"] for spec in specs if spec.operator == "frame_second_pass")
    assert {spec.constants["COLOR"] for spec in specs if "COLOR" in spec.constants} == {"bgr", "nv12", "yuyv", "grey"}


@pytest.mark.parametrize(
    "contract",
    [{}, {"layout": "nchw"}, {"layout": "chw", "tensor": {"dtype": "float32"}}, {"layout": "nchw", "tensor": [1]}],
)
def test_contracts_that_say_too_little(contract):
    with pytest.raises(FrameError, match="an image input must have layout"):
        kernel_specs_for_image(contract)


def test_standard_specifications():
    specs = standard_specs(87)
    assert len({spec.name for spec in specs}) == len(specs) == 10
