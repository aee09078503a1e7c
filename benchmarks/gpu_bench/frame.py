"""The frame path on the GPU against the same steps as torch operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn.functional import interpolate

from gpu_bench.timing import Case
from mmedge_kernels.frame import FrameSettings, plan_frame

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
FRAMES = {"720p": (720, 1280), "1080p": (1080, 1920), "4K": (2160, 3840)}


def cases(device: str, rehearse: bool) -> Iterator[Case]:
    """Camera frames to CLIP's 224 x 224: BGR against torch operators, NV12 by itself."""
    frames = {"rehearsal": (50, 64)} if rehearse else FRAMES
    for name, (height, width) in frames.items():
        for color in ("bgr", "nv12"):
            yield frame_case(device, name, height, width, color, 16 if rehearse else 224)


def frame_case(device: str, name: str, height: int, width: int, color: str, size: int) -> Case:
    settings = FrameSettings(size=(size, size), mean=MEAN, std=STD, color=color)  # type: ignore[arg-type]
    shape = (height * 3 // 2, width) if color == "nv12" else (height, width, 3)
    frame = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    plan = plan_frame(settings, height, width, implementation="triton")
    exact = plan_frame(settings, height, width, implementation="reference")
    out = torch.empty(plan.out_shape, device=device)
    paths: dict[str, Callable[[], torch.Tensor]] = {"frame_to_tensor": lambda: plan(frame, out=out)}
    if color == "bgr":
        resized = plan.geometry.resized_size
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (MEAN, STD))
        paths["torch operators"] = lambda: _torch_path(frame, resized, plan.geometry.crop_offset, size, mean, std)
        if device == "cuda":
            compiled = torch.compile(_torch_path, dynamic=False)
            paths["torch.compile"] = lambda: compiled(frame, resized, plan.geometry.crop_offset, size, mean, std)
    needed = exact_bytes(height, width, settings)
    return Case(
        name="frame",
        sizes={"frame": name, "color": color, "size": size},
        paths=paths,
        reference=lambda: torch.from_numpy(np.asarray(exact(frame.cpu().numpy()))).to(device).double(),
        operations=0.0,
        bytes=needed + out.numel() * out.element_size(),
        # Torch's resize keeps fractions between its passes and rounds nothing to uint8; ours is exact.
        bound=2e-2,
        exact=True,
    )


def exact_bytes(height: int, width: int, settings: FrameSettings) -> float:
    """Bytes of the frame that the crop needs."""
    geometry = settings.geometry(height, width)
    rows = geometry.vertical.taken / geometry.vertical.resized * height
    columns = geometry.horizontal.taken / geometry.horizontal.resized * width
    return rows * columns * (1.5 if settings.color == "nv12" else 3.0)


def _torch_path(
    frame: torch.Tensor,
    resized: tuple[int, int],
    offset: tuple[int, int],
    size: int,
    mean: torch.Tensor,
    std: torch.Tensor,
) -> torch.Tensor:
    picture = frame.flip(-1).permute(2, 0, 1)[None].float()
    picture = interpolate(picture, resized, mode="bicubic", antialias=True)
    picture = picture[:, :, offset[0] : offset[0] + size, offset[1] : offset[1] + size]
    return (picture.clamp(0, 255) / 255 - mean) / std
