"""The Triton form of the frame path equals the reference to the bit, and refuses what it cannot take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmedge_kernels.errors import FrameError, ImplementationError
from mmedge_kernels.frame import FrameSettings, frame_to_tensor, plan_frame

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

COLORS = ["bgr", "rgb", "grey", "nv12", "yuyv"]
NORMALISATION = {"mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)}


def random_frame(color: str, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random bytes with hard edges, so that sums reach beyond 0 and 255."""
    shapes = {"grey": (height, width), "nv12": (height * 3 // 2, width), "yuyv": (height, width, 2)}
    generator = np.random.default_rng(seed)
    return generator.choice([0, 16, 90, 128, 235, 255], shapes.get(color, (height, width, 3))).astype(np.uint8)


def check(chosen: FrameSettings, frame: np.ndarray, height: int, width: int, device: str) -> None:
    expected = plan_frame(chosen, height, width, implementation="reference")(frame)
    plan = plan_frame(chosen, height, width, implementation="triton")
    out = torch.full(plan.out_shape, 123, dtype=torch.from_numpy(expected).dtype, device=device)
    got = plan(torch.from_numpy(frame).to(device), out=out)
    assert got is out
    np.testing.assert_array_equal(got.cpu().numpy(), expected)


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize(
    ("height", "width", "size", "options"),
    [
        (46, 58, (16, 20), {}),
        (120, 16, (11, 17), {"resize": "letterbox", "layout": "nhwc", "dtype": "float16", "pad_value": 114}),
        (14, 10, (33, 21), {"resize": "stretch", "dtype": "uint8", "interpolation": "bilinear"}),
        (2, 2, (5, 3), {"resize": "letterbox"}),
        (30, 34, (20, 9), {"shortest_edge": 12}),
        (16, 66, (16, 66), {"resize": "stretch"}),
    ],
    ids=["crop", "tall-letterbox", "enlarged", "tiny", "padded", "as-is"],
)
def test_equal_to_the_reference(device, color, height, width, size, options):
    chosen = FrameSettings(size=size, color=color, **NORMALISATION, **options)
    check(chosen, random_frame(color, height, width), height, width, device)


@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_any_size(data, device):
    color = data.draw(st.sampled_from(COLORS))
    height, width = (2 * data.draw(st.integers(1, 25)) for _ in range(2))
    chosen = FrameSettings(
        size=(data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))),
        resize=data.draw(st.sampled_from(["shortest-edge", "stretch", "letterbox"])),
        interpolation=data.draw(st.sampled_from(["bilinear", "bicubic"])),
        color=color,
        **NORMALISATION,
    )
    check(chosen, random_frame(color, height, width, data.draw(st.integers(0, 99))), height, width, device)


def test_strides_of_the_frame(device):
    whole = torch.from_numpy(random_frame("bgr", 60, 80)).to(device)
    for view in (whole[::2, 3:47], whole.permute(1, 0, 2), whole[:, :, :1].expand(-1, -1, 3)):
        chosen = FrameSettings(size=(12, 14), **NORMALISATION)
        got = plan_frame(chosen, *view.shape[:2], implementation="triton")(view)
        expected = frame_to_tensor(np.ascontiguousarray(view.cpu().numpy()), size=(12, 14), **NORMALISATION)
        np.testing.assert_array_equal(got.cpu().numpy(), expected)


def test_tensors_in_tensors_out_on_the_cpu():
    frame = random_frame("bgr", 40, 50)
    got = frame_to_tensor(torch.from_numpy(frame), size=(12, 14), **NORMALISATION)
    assert isinstance(got, torch.Tensor)
    np.testing.assert_array_equal(got.numpy(), frame_to_tensor(frame, size=(12, 14), **NORMALISATION))


def test_a_forced_kernel_takes_tensors_only():
    with pytest.raises(ImplementationError, match="takes torch tensors, got a numpy array"):
        frame_to_tensor(random_frame("bgr", 8, 8), size=(4, 4), implementation="triton", **NORMALISATION)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (torch.zeros(8, 8, 4, dtype=torch.uint8), r"bgr uint8 \[H, W, 3\], got shape \(8, 8, 4\)"),
        (torch.zeros(8, 8, 3), "frame must be uint8, got float32"),
        (torch.zeros(8, 8, 3, dtype=torch.bfloat16), "frame must be uint8, got bfloat16"),
        (torch.zeros(8, 8, 3).to(torch.float8_e4m3fn), "frame must be uint8, got float8_e4m3fn"),
        (torch.zeros(0, 8, 3, dtype=torch.uint8), "frame has no pixels"),
    ],
    ids=["channels", "float32", "bfloat16", "float8", "empty"],
)
def test_bad_frames(frame, message):
    with pytest.raises(FrameError, match=message):
        frame_to_tensor(frame, size=(4, 4), implementation="triton", **NORMALISATION)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (torch.zeros(1, 3, 4, 5), r"out must be a torch tensor of float32 \(1, 3, 4, 4\) on cpu"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.float16), "out must be a torch tensor of float32"),
        (torch.zeros(1, 4, 4, 3).permute(0, 3, 1, 2), "out must be contiguous"),
        (np.zeros((1, 3, 4, 4), np.float32), "out must be a torch tensor"),
    ],
    ids=["shape", "dtype", "strides", "numpy"],
)
def test_bad_out(out, message):
    frame = torch.zeros(8, 8, 3, dtype=torch.uint8)
    with pytest.raises(FrameError, match=message):
        frame_to_tensor(frame, size=(4, 4), implementation="triton", out=out, **NORMALISATION)


@pytest.mark.gpu
@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (480, 640), (1920, 1080), (2160, 3840)])
@pytest.mark.parametrize("resize", ["shortest-edge", "letterbox"])
def test_cameras_on_a_gpu(color, height, width, resize):
    chosen = FrameSettings(size=(224, 224), resize=resize, color=color, dtype="float16", **NORMALISATION)
    frame = np.random.default_rng(height).integers(0, 256, random_frame(color, height, width).shape, dtype=np.uint8)
    check(chosen, frame, height, width, "cuda")
