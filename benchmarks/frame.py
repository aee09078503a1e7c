"""Times the frame path on one core against the usual ways to the same tensor, and against reading the frame's bytes.

    OPENBLAS_NUM_THREADS=1 python benchmarks/frame.py [--rounds 40] [--threads 2] [--json frame.json]

A round times every path of a case one after the other, so that a busy machine slows all of them alike; each time is
the quickest of a few calls. The table shows the median over the rounds and, for the ratios, the median of the ratios of
each round. All paths begin with a frame in memory and end in a float32 tensor:

  native      `mmedge_kernels.frame`, the instruction-set variant that the first line names
  reference   the same in numpy
  pillow      Pillow resizes, numpy does the rest; YUV becomes RGB by cv2.cvtColor first. The same tensor to the bit.
  area        OpenCV's INTER_AREA, then numpy. Not the same tensor: another filter, given for orientation.
  read        no tensor: the bytes that the crop needs, copied row by row by numpy into a block of their own. What any
              path pays at least for the memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from mmedge_kernels.frame import FramePlan, FrameSettings, native_status, plan_frame
from mmedge_kernels.frame.quads import quad_plan
from mmedge_kernels.frame.tables import frame_tables

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
TO_RGB = {
    "bgr": cv2.COLOR_BGR2RGB,
    "grey": cv2.COLOR_GRAY2RGB,
    "nv12": cv2.COLOR_YUV2RGB_NV12,
    "yuyv": cv2.COLOR_YUV2RGB_YUYV,
}
CALLS_PER_TIME = 3


@dataclass(frozen=True)
class Case:
    """A frame size and what becomes of it."""

    name: str
    height: int
    width: int
    settings: FrameSettings

    def frame(self) -> NDArray[np.uint8]:
        shapes = {"nv12": (self.height * 3 // 2, self.width), "yuyv": (self.height, self.width, 2)}
        shapes |= {"grey": (self.height, self.width), "bgr": (self.height, self.width, 3)}
        return np.random.default_rng(0).integers(0, 256, shapes[self.settings.color], dtype=np.uint8)


def clip(color: Any = "bgr") -> FrameSettings:
    return FrameSettings(size=(224, 224), color=color, mean=MEAN, std=STD)


def detector(size: tuple[int, int], resize: Any) -> FrameSettings:
    return FrameSettings(size=size, resize=resize, interpolation="bilinear", mean=MEAN, std=STD)


CASES = [
    Case("1080p to 224, bicubic crop", 1080, 1920, clip()),
    Case("the same from NV12", 1080, 1920, clip("nv12")),
    Case("the same from YUYV", 1080, 1920, clip("yuyv")),
    Case("the same from grey", 1080, 1920, clip("grey")),
    Case("720p to 224, bicubic crop", 720, 1280, clip()),
    Case("4K to 224, bicubic crop", 2160, 3840, clip()),
    Case("1080p to 640, bilinear letterbox", 1080, 1920, detector((640, 640), "letterbox")),
    Case("VGA to 120x160, bilinear", 480, 640, detector((120, 160), "stretch")),
    Case("1920x640 to 480, vertical pass first", 1920, 640, detector((480, 480), "stretch")),
]


def finished(picture: NDArray[Any], settings: FrameSettings, case: Case) -> NDArray[np.float32]:
    """Crop, padding, normalisation and layout in numpy."""
    geometry = settings.geometry(case.height, case.width)
    top, left = geometry.crop_offset
    height, width = settings.size
    picture = picture[top : top + height, left : left + width]
    above, below, before, after = geometry.padding
    if any(geometry.padding):
        picture = np.pad(picture, ((above, below), (before, after), (0, 0)), constant_values=settings.pad_value)
    rescaled = (picture * (1 / 255)).astype(np.float32)
    normalised = (rescaled - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None])


def pillow_path(frame: NDArray[np.uint8], case: Case) -> NDArray[np.float32]:
    settings = case.settings
    image = Image.fromarray(cv2.cvtColor(frame, TO_RGB[settings.color]))
    resized = settings.geometry(case.height, case.width).resized_size
    return finished(np.asarray(image.resize(resized[::-1], FILTERS[settings.interpolation])), settings, case)


def area_path(frame: NDArray[np.uint8], case: Case) -> NDArray[np.float32]:
    settings = case.settings
    resized = settings.geometry(case.height, case.width).resized_size[::-1]
    if settings.color in ("bgr", "grey"):  # fewer pixels to convert afterwards
        return finished(
            cv2.cvtColor(cv2.resize(frame, resized, interpolation=cv2.INTER_AREA), TO_RGB[settings.color]),
            settings,
            case,
        )
    rgb = cv2.cvtColor(frame, TO_RGB[settings.color])
    return finished(cv2.resize(rgb, resized, interpolation=cv2.INTER_AREA), settings, case)


def plan_path(plan: FramePlan, frame: NDArray[np.uint8], threads: int) -> Callable[[], NDArray[Any]]:
    out = np.empty(plan.out_shape, np.float32)
    return lambda: plan(frame, out=out, threads=threads)


def needed_parts(frame: NDArray[np.uint8], case: Case) -> list[NDArray[np.uint8]]:
    """The bytes that the crop needs, one 2-D array a plane of the frame."""
    numbers = quad_plan(frame_tables(case.settings, case.height, case.width)).numbers
    rows, columns = slice(numbers["row0"], numbers["row0"] + numbers["rows"]), numbers["col0"]
    pixel = 1 if frame.ndim == 2 else frame.shape[2]
    flat = frame.reshape(len(frame), -1)
    bytes_of_row = slice(columns * pixel, (columns + numbers["cols"]) * pixel)
    parts = [flat[rows, bytes_of_row]]
    if case.settings.color == "nv12":
        chroma = slice(case.height + rows.start // 2, case.height + (rows.stop + 1) // 2)
        parts.append(flat[chroma, bytes_of_row])
    return parts


def read_path(parts: list[NDArray[np.uint8]]) -> Callable[[], None]:
    copies = [np.empty(part.shape, np.uint8) for part in parts]

    def read() -> None:
        for copy, part in zip(copies, parts, strict=True):
            np.copyto(copy, part)

    return read


def quickest(path: Callable[[], Any]) -> float:
    """Milliseconds of the quickest of a few calls."""
    times = []
    for _ in range(CALLS_PER_TIME):
        start = time.perf_counter()
        path()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def measure(paths: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each path, one number a round."""
    times: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            times[name].append(quickest(path))
    return times


def run_case(case: Case, rounds: int, threads: int) -> dict[str, Any]:
    frame = case.frame()
    parts = needed_parts(frame, case)
    reference = plan_frame(case.settings, case.height, case.width, implementation="reference")
    paths: dict[str, Callable[[], Any]] = {"reference": plan_path(reference, frame, 1)}
    if native_status()[0]:
        native = plan_frame(case.settings, case.height, case.width, implementation="native")
        paths |= {"native": plan_path(native, frame, 1), "threads": plan_path(native, frame, threads)}
    paths["pillow"] = lambda: pillow_path(frame, case)
    expected = paths["pillow"]()
    for name, path in paths.items():
        if not np.array_equal(path(), expected):
            raise SystemExit(f"{name} differs from Pillow: {case.name}")
    paths |= {"area": lambda: area_path(frame, case), "read": read_path(parts)}
    times = measure(paths, rounds)
    ratios = {
        name: round(statistics.median(a / b for a, b in zip(values, times["native"], strict=True)), 2)
        for name, values in times.items()
        if "native" in times and name != "native"
    }
    return {
        "case": case.name,
        "needed_bytes": sum(part.size for part in parts),
        "median_ms": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "minimum_ms": {name: round(min(values), 3) for name, values in times.items()},
        "ratio_to_native": ratios,
    }


def table_row(result: dict[str, Any]) -> str:
    median, ratio = result["median_ms"], result["ratio_to_native"]
    cells = [f"{result['case']:<38}"]
    cells += [f"{median.get(name, float('nan')):>10.2f}" for name in COLUMNS]
    cells += [f"{ratio.get(name, float('nan')):>13.2f}" for name in ("pillow", "area", "read")]
    return "".join(cells)


COLUMNS = ("native", "threads", "reference", "pillow", "area", "read")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="interleaved rounds a case (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of the column `threads` (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    available, detail = native_status()
    print(f"native: {detail}" if available else f"native: not available, {detail}")
    heads = "".join(f"{name:>10}" for name in COLUMNS)
    print(f"{'median milliseconds':<38}{heads}{'pillow/native':>13}{'area/native':>13}{'read/native':>13}")
    results = []
    for case in CASES:
        results.append(run_case(case, arguments.rounds, arguments.threads))
        print(table_row(results[-1]), flush=True)
    if arguments.json:
        report = {
            "date": datetime.date.today().isoformat(),
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "variant": detail,
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "versions": {"pillow": PIL.__version__, "opencv": cv2.__version__, "numpy": np.__version__},
            "results": results,
        }
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
