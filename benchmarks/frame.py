"""Times the frame path against Pillow and numpy doing the same work, on one core.

    python benchmarks/frame.py [--rounds 30] [--json frame.json]

Rounds are interleaved, so that a busy machine slows all columns alike; the tables show medians in milliseconds. Both
sides start from a BGR frame in memory, as OpenCV gives it, and end in the same float32 tensor, compared to the bit.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmedge_kernels.frame import FramePlan, FrameSettings, native_status, plan_frame

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

NORMALISATION: dict[str, Any] = {"mean": MEAN, "std": STD}

# name, frame height and width, settings
CASES = [
    ("1080p to 224, bicubic crop", 1080, 1920, FrameSettings(size=(224, 224), **NORMALISATION)),
    ("720p to 224, bicubic crop", 720, 1280, FrameSettings(size=(224, 224), **NORMALISATION)),
    ("4K to 224, bicubic crop", 2160, 3840, FrameSettings(size=(224, 224), **NORMALISATION)),
    (
        "1080p to 640, bilinear letterbox",
        1080,
        1920,
        FrameSettings(size=(640, 640), resize="letterbox", interpolation="bilinear", **NORMALISATION),
    ),
    (
        "VGA to 120x160, bilinear",
        480,
        640,
        FrameSettings(size=(120, 160), resize="stretch", interpolation="bilinear", **NORMALISATION),
    ),
]


def pillow_path(frame: NDArray[np.uint8], settings: FrameSettings) -> NDArray[np.float32]:
    """The same tensor the usual way: Pillow resizes, numpy does the rest."""
    geometry = settings.geometry(*frame.shape[:2])
    image = Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1]))
    picture = np.asarray(image.resize(geometry.resized_size[::-1], FILTERS[settings.interpolation]))
    top, left = geometry.crop_offset
    height, width = settings.size
    picture = picture[top : top + height, left : left + width]
    above, below, before, after = geometry.padding
    picture = np.pad(picture, ((above, below), (before, after), (0, 0)), constant_values=settings.pad_value)
    rescaled = (picture * (1 / 255)).astype(np.float32)
    normalised = (rescaled - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None])


def plan_path(plan: FramePlan, frame: NDArray[np.uint8], threads: int) -> Callable[[], NDArray[Any]]:
    out = np.empty(plan.out_shape, np.float32)
    return lambda: plan(frame, out=out, threads=threads)


def measure(paths: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each path."""
    times: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            start = time.perf_counter()
            path()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def run_case(height: int, width: int, settings: FrameSettings, rounds: int) -> dict[str, float]:
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    numpy_plan = plan_frame(settings, height, width, implementation="reference")
    paths: dict[str, Callable[[], Any]] = {
        "pillow": lambda: pillow_path(frame, settings),
        "reference": plan_path(numpy_plan, frame, 1),
    }
    if native_status()[0]:
        native_plan = plan_frame(settings, height, width, implementation="native")
        paths |= {"native": plan_path(native_plan, frame, 1), "native, 2 threads": plan_path(native_plan, frame, 2)}
    expected = paths["pillow"]()
    for name, path in paths.items():
        if not np.array_equal(path(), expected):
            raise SystemExit(f"{name} differs from Pillow on a frame of {height} x {width}")
    return measure(paths, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="interleaved rounds a case (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    available, detail = native_status()
    print(f"native: {detail}" if available else f"native: not available, {detail}")
    print(f"{'case':<34}{'pillow':>10}{'reference':>12}{'native':>10}{'2 threads':>12}{'pillow/native':>15}")
    results = []
    for name, height, width, settings in CASES:
        times = run_case(height, width, settings, arguments.rounds)
        results.append({"case": name, "milliseconds": times})
        native, threaded = times.get("native", float("nan")), times.get("native, 2 threads", float("nan"))
        print(
            f"{name:<34}{times['pillow']:>10.2f}{times['reference']:>12.2f}{native:>10.2f}{threaded:>12.2f}"
            f"{times['pillow'] / native:>15.1f}"
        )
    if arguments.json:
        report = {"machine": platform.processor() or platform.machine(), "variant": detail, "results": results}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
