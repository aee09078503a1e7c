"""What frames that run at once save, and what an open axis of frames costs a frame that runs alone.

    python benchmarks/batch.py [--frames 4] [--rounds 15] [--threads 2] [--json out.json]
    python benchmarks/batch.py --quick      # a tiny CLIP, two rounds: does it run?

CLIP ViT-B/32 with random weights and 8 prompts, and the built-in model with 2, each exported for one frame at a time
and for several, in fp32. In each round a model answers the same frames one by one from the first bundle, one by one
from the second, and at once, in an order that turns from round to round. Ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from contenders.clip_files import write_checkpoint
from contenders.clip_models import PROMPTS
from contenders.report import RESULTS, machine, milliseconds, ratios, table, write

import mmedge
import mmedge_export as mx
from mmedge.loading import built_in_bundle
from mmedge.tabletop import Tabletop

PAUSE_S = 0.2
ALONE, OPEN, AT_ONCE = "one by one", "one by one, axis open", "at once"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else arguments.rounds
    rows: list[dict[str, Any]] = []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        models = {"CLIP ViT-B/32": (clip(Path(folder), small=arguments.quick), list(PROMPTS))}
        models["built-in"] = (built_in(Path(folder)), ["the red cube", "the blue ball"])
        for name, (bundles, prompts) in models.items():
            for engine in ("onnxruntime", "openvino"):
                times = measure(bundles, prompts, engine, arguments.frames, rounds, arguments.threads)
                rows.append({"model": name, "engine": engine, **summary(times, arguments.frames)})
    heads = ("model", "engine", "ms a frame, one by one", "at once", "times faster", "range", "open axis costs")
    print(table(heads, [line(row) for row in rows]))
    path = arguments.json or (None if arguments.quick else RESULTS / "batch-cpu.json")
    if path is not None:
        about = {"frames": arguments.frames, "rounds": rounds, "weights": "random, and the built-in model's own"}
        load_text = {"before": round(load, 2), "after": round(os.getloadavg()[0], 2)}
        write(path, {**machine(arguments.threads), **about, "load_average": load_text, "rows": rows})


def clip(folder: Path, *, small: bool) -> tuple[Path, Path]:
    """CLIP for one frame, and for several."""
    write_checkpoint(folder / "hf", small=small)
    module, inputs, task = mx.from_pretrained(folder / "hf")
    made = []
    for batch in (False, True):
        out, options = folder / f"clip-{batch}.mmedge", mx.Options(batch=batch, progress=False, form="folder")
        mx.export(module, inputs=inputs, task=task, out=out, precision="fp32", options=options)
        made.append(out)
    return made[0], made[1]


def built_in(folder: Path) -> tuple[Path, Path]:
    """The built-in model for one frame, and for several."""
    made = []
    for batch in (False, True):
        out, options = folder / f"tabletop-{batch}.mmedge", mx.Options(batch=batch, progress=False)
        mx.export_bundle(built_in_bundle(), out=out, precision="fp32", options=options)
        made.append(out)
    return made[0], made[1]


def measure(
    bundles: tuple[Path, Path], prompts: list[str], engine: str, count: int, rounds: int, threads: int
) -> dict[str, list[float]]:
    """Seconds of `count` frames by the way they ran, the first round left out."""
    camera = Tabletop(seed=3)
    frames = [camera.frame(40 * index)[0] for index in range(count)]
    with mmedge.load(bundles[0], engine=engine, threads=threads) as fixed, \
            mmedge.load(bundles[1], engine=engine, threads=threads) as several:  # fmt: skip
        for model in (fixed, several):
            model.set_text(prompts)
        check(several, frames)
        ways: dict[str, Callable[[], object]] = {
            ALONE: lambda: [fixed(frame) for frame in frames],
            OPEN: lambda: [several(frame) for frame in frames],
            AT_ONCE: lambda: several.run_batch(frames),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        names = list(ways)
        for index in range(rounds + 1):
            for name in names[index % 3 :] + names[: index % 3]:
                time.sleep(PAUSE_S)
                began = time.perf_counter()
                ways[name]()
                if index:
                    times[name].append(time.perf_counter() - began)
    return times


def check(model: mmedge.Model, frames: list[Any]) -> None:
    """Nothing is timed that gives other results."""
    for frame, result in zip(frames, model.run_batch(frames), strict=True):
        ours, alone = result.to_json()["scores"], model(frame).to_json()["scores"]
        if not np.allclose(ours, alone, atol=1e-5):
            raise SystemExit(f"frames at once give {ours}, and alone {alone}")


def summary(times: dict[str, list[float]], count: int) -> dict[str, Any]:
    per_frame = {name: [seconds / count for seconds in each] for name, each in times.items()}
    return {
        "alone_ms": milliseconds(per_frame[ALONE]),
        "open_ms": milliseconds(per_frame[OPEN]),
        "at_once_ms": milliseconds(per_frame[AT_ONCE]),
        "faster": ratios(times[ALONE], times[AT_ONCE]),
        "open_costs": ratios(times[OPEN], times[ALONE]),
    }


def line(row: dict[str, Any]) -> tuple[object, ...]:
    faster, costs = row["faster"], row["open_costs"]
    span = f"{faster['min']} to {faster['max']}"
    return (row["model"], row["engine"], row["alone_ms"], row["at_once_ms"], faster["median"], span, costs["median"])


if __name__ == "__main__":
    main()
