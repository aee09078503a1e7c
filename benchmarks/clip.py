"""CLIP ViT-B/32 from a 1080p frame to the scores of 8 prompts: mmedge against the usual ways, in one run.

    python benchmarks/clip.py [--rounds 12] [--threads 2] [--torch-compile] [--json out.json]
    python benchmarks/clip.py --quick       # a tiny CLIP, few contenders, two rounds: does it run?

Random weights. Frames come from a real clip (MMEDGE_TEST_DATA, or shared/data beside the checkout) brought to 1080p
beforehand, and are made up where there is none. Each contender has a process of its own and prepares its frames as its
documentation does. The processes take turns, and only one computes at a time; after each turn comes a pause in which
its threads come to rest, and the processor time that a process takes while it should rest is reported. Ratios are
medians of the rounds' ratios; a round's time is the median of its frames.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from contenders.clip_models import PROMPTS, Files
from contenders.report import RESULTS, machine, milliseconds, ratios, table, verdict, write
from contenders.turns import Seat

PAUSE_S = 0.4
HERE = "mmedge, all left to it"
WHOLE, EAGER = "ONNX Runtime, whole graph", "transformers, processor and model"
MAKERS = {
    EAGER: "transformers_eager",
    "transformers, text features kept": "transformers_text_kept",
    WHOLE: "onnxruntime_whole",
    "OpenVINO, whole graph, as it comes": "openvino_whole",
    "OpenVINO, whole graph, fp32": "openvino_whole_fp32",
    "ONNX Runtime, hand-split, fp32": "split_onnxruntime_fp32",
    "ONNX Runtime, hand-split, int8 dynamic": "split_onnxruntime_int8",
    "OpenVINO, hand-split, fp32": "split_openvino_fp32",
    "OpenVINO, hand-split, bf16": "split_openvino_bf16",
    "ONNX Runtime, hand-split, fp32, our frame path": "split_onnxruntime_fp32_our_frames",
    "OpenVINO, hand-split, fp32, our frame path": "split_openvino_fp32_our_frames",
    "OpenVINO, hand-split, bf16, our frame path": "split_openvino_bf16_our_frames",
    HERE: "Mmedge",
}
COMPILED = {"transformers, torch.compile": "transformers_compiled"}
HAND_SPLIT = ("ONNX Runtime, hand-split, fp32", "OpenVINO, hand-split, fp32")
NEEDED = (EAGER, WHOLE, *HAND_SPLIT, HERE)
"""What the goals speak of."""

FACTOR = 3.0
"""How much longer a frame may take beside a swap: text and frame share the processor, but none waits for the other."""


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        # What mmedge measures of this bundle is of no use once it is gone.
        os.environ["MMEDGE_CACHE_DIR"] = str(Path(folder) / "cache")
        from contenders.clip_files import prepare

        print("preparing the checkpoint, the ONNX files and the bundle", flush=True)
        files = prepare(Path(folder), arguments.threads, quick=arguments.quick)
        seats = seated(files, arguments)
        try:
            expected = seats[EAGER].answers(range(8))
            rows = take_turns(seats, arguments)
            for name, seat in seats.items():
                rows[name] |= {"runs": seat.says, "cosine": cosine(seat.answers(range(8)), expected)}
            swaps = seats[HERE].call("contenders.swap:swap_prompts", new_prompts(arguments.swaps))
        finally:
            for seat in seats.values():
                seat.close()
    frames = f"a clip, {files.clip}" if files.clip else "made up: no clip was found"
    print(f"\n1080p frames of {frames}; {len(PROMPTS)} prompts, {arguments.threads} threads\n")
    print(table(("contender", "ms a frame", "times slower", "range", "cosine", "runs"),
                [line(name, row) for name, row in rows.items()]))  # fmt: skip
    print(f"\nswaps beside running frames: {swaps}\n")
    goals = [] if arguments.quick else [*judge(rows), *judge_swap(swaps)]
    path = arguments.json or (None if arguments.quick else RESULTS / "clip-cpu.json")
    if path is not None:
        about = {"frames": frames, "prompts": PROMPTS, "rounds": arguments.rounds, "weights": "random"}
        report = {**machine(arguments.threads), **about, "contenders": rows, "swap": swaps, "goals": goals}
        write(path, report)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--frames", type=int, default=4, help="frames of a turn")
    parser.add_argument("--swaps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--torch-compile", action="store_true", help="also transformers under torch.compile")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few contenders; nothing is written")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.frames, arguments.swaps = 2, 2, 2
    return arguments


def seated(files: Files, arguments: argparse.Namespace) -> dict[str, Seat]:
    """A process for each contender; one that cannot be made here is left out and named."""
    makers = {name: MAKERS[name] for name in NEEDED} if arguments.quick else MAKERS
    seats: dict[str, Seat] = {}
    for name, function in {**makers, **(COMPILED if arguments.torch_compile else {})}.items():
        try:
            seats[name] = Seat(f"contenders.clip_models:{function}", files, files / "frames.npy")
            print(f"  {name}: {seats[name].says}", flush=True)
        except RuntimeError as error:
            if name in NEEDED:
                for seat in seats.values():
                    seat.close()
                raise
            print(f"  {name}: left out, {error}", file=sys.stderr)
    return seats


def take_turns(seats: dict[str, Seat], arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Interleaved rounds, of which the first one is not counted."""
    times: dict[str, list[float]] = {name: [] for name in seats}
    idle: dict[str, float] = dict.fromkeys(seats, 0.0)
    for index in range(arguments.rounds + 1):
        for name, seat in seats.items():
            time.sleep(PAUSE_S)
            turn = seat.turn(index * arguments.frames, arguments.frames)
            if index:
                times[name].append(statistics.median(turn.frame_s))
                idle[name] += turn.idle_cpu_s
    return {
        name: {
            "frame_ms": milliseconds(each),
            "slower": ratios(each, times[HERE]),
            "idle_cpu_ms": round(1000 * idle[name] / arguments.rounds, 2),
        }
        for name, each in times.items()
    }


def cosine(given: Any, expected: Any) -> float:
    """The least over the frames."""
    along = (given * expected).sum(1) / np.linalg.norm(given, axis=1) / np.linalg.norm(expected, axis=1)
    return round(float(along.min()), 6)


def new_prompts(count: int) -> list[list[str]]:
    """Lists of 8 prompts about as long as the first ones, no two of which are the same."""
    colors = ("red", "green", "blue", "yellow", "black", "white", "brown", "grey")
    things = ("car", "bicycle", "jacket", "door", "box", "cup", "dog", "chair", "truck", "bag")
    return [[f"a photo of a {color} {things[turn % len(things)]}" for color in colors] for turn in range(count)]


def line(name: str, row: dict[str, Any]) -> list[object]:
    slower = row["slower"]
    spread = f"{slower['min']:.2f} to {slower['max']:.2f}"
    return [name, f"{row['frame_ms']:.1f}", f"{slower['median']:.2f}", spread, row["cosine"], row["runs"]]


def judge(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    best = min(rows[name]["slower"]["median"] for name in HAND_SPLIT)
    return [
        verdict("times faster than transformers", rows[EAGER]["slower"]["median"], 6.0),
        verdict("times faster than ONNX Runtime on the whole graph", rows[WHOLE]["slower"]["median"], 4.0),
        verdict("times faster than the best hand-split fp32", best, 1.3),
        verdict("cosine of the image embedding to torch in float32", rows[HERE]["cosine"], 0.999),
    ]


def judge_swap(swaps: dict[str, Any]) -> list[dict[str, Any]]:
    longest = max(swaps["longest_frame_ms"]) / swaps["frame_ms"]
    return [
        verdict("slowest change of 8 prompts, ms", max(swaps["swap_ms"]), 100.0, at_most=True),
        verdict("longest frame beside a swap, in usual frames", round(longest, 2), FACTOR, at_most=True),
        verdict("results that mix two lists of prompts", swaps["mixed"], 0, at_most=True),
    ]


if __name__ == "__main__":
    main()
