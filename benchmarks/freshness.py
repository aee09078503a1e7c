"""A model that takes 200 ms on a camera of 30 frames a second: how old are its results, and is every drop counted?

    python benchmarks/freshness.py [--results 300] [--write]

The built-in model looks at the synthetic camera, and each call is drawn out to 200 ms. A result should be no older
than the call and the time between two frames; what it is older than its call is compared with the latter. Then a file
with every frame: none may be missing. Exit code 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from contenders.report import RESULTS, machine, verdict, write

from mmedge.model import Model, load
from mmedge.results import Result
from mmedge.sources import Frame
from mmedge.streaming import stream

CALL_S = 0.2
FPS = 30
FILE_FRAMES = 40
CAMERA = f"tabletop://?seed=5&width=320&height=240&fps={FPS}"


class Drawn:
    """A model whose calls take 200 ms; remembers how old each result was beyond its call, in ms."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.beyond_ms: list[float] = []

    def __call__(self, frame: Frame) -> Result:
        began = time.monotonic()
        result = self._model(frame)
        time.sleep(max(began + CALL_S - time.monotonic(), 0.0))
        called = time.monotonic() - began
        self.beyond_ms.append(result.age_now_ms() - called * 1e3)
        return result


def camera(model: Drawn, count: int) -> dict[str, Any]:
    """The camera: ages, and every frame accounted for."""
    numbers, told = [], 0
    with stream(model, CAMERA, max_frames=count) as results:
        for result in results:
            numbers.append(result.frame)
            told += result.dropped
    report = results.reports[0]
    return {
        "results": len(numbers),
        "dropped by the results": told,
        "missing numbers": numbers[-1] + 1 - len(numbers),
        "unaccounted": report.read - report.processed - sum(report.dropped.values()) - report.errors,
        "beyond the call, ms": {
            name: round(float(np.percentile(model.beyond_ms, share)), 1)
            for name, share in (("p50", 50), ("p95", 95), ("p99", 99), ("most", 100))
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=300)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}/freshness.json")
    arguments = parser.parse_args()
    with load(engine="onnxruntime", threads=1) as model:
        model.set_text(["a cube", "a ball"])
        model.warmup()
        seen = camera(Drawn(model), arguments.results)
        file = [r.frame for r in stream(Drawn(model), f"{CAMERA}&live=0&frames={FILE_FRAMES}", policy="every")]
    print(seen)
    miscounted = abs(seen["dropped by the results"] - seen["missing numbers"]) + abs(seen["unaccounted"])
    goals = [
        verdict("age beyond the call, p99, ms", seen["beyond the call, ms"]["p99"], round(1e3 / FPS, 1), at_most=True),
        verdict("frames miscounted", miscounted, 0, at_most=True),
        verdict("frames of a file that are missing", FILE_FRAMES - len(file), 0, at_most=True),
    ]
    if arguments.write:
        write(Path(RESULTS) / "freshness.json", {"machine": machine(1), **seen, "goals": goals})
    return 0 if all(goal["met"] for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
