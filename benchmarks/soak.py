"""A stream of cameras with faults, for minutes or hours: does anything grow?

    python benchmarks/soak.py [--minutes 30] [--rtsp ../shared/data] [--name soak]

Four synthetic cameras drop, freeze, delay, corrupt, resize, hang and go away, each again and again; the built-in model
looks at them as fast as it can, in one stream, while its prompts change every few seconds. With ``--rtsp`` there is a
fifth source, an RTSP server that is killed and started again. Memory, threads and descriptors of the process are taken
once a second, drawn to ``results/NAME.png`` and written to ``results/NAME.json``.

The C library gives threads arenas of their own, up to eight a core, and each holds what it once needed. As a service
should, this script sets MALLOC_ARENA_MAX=2 unless it is set.

Exit code 1 where one of them grew, a camera gave nothing, a fault was not noticed, a frame was not accounted for, a
late result was called live, or the stream did not end in time.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from contenders.report import RESULTS, machine, verdict, write
from stream_bench.drawing import draw
from stream_bench.vitals import UNITS, Sampler, columns, growth

from mmedge.model import Model, load
from mmedge.results import Result
from mmedge.streaming import Backoff, SourceOptions, SourceReport, StateChange, stream

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.rtsp import RtspServer, missing

ARENAS = "MALLOC_ARENA_MAX"
LIMITS = {"memory_mb": 5.0, "threads": 1.0, "descriptors": 1.0}
THREADS = 1
CLOSE_S = 2.2
PROMPTS = (["a cube", "a ball"], ["the red cube"], ["a cone", "a cylinder", "the blue ball"])
TABLE = "tabletop://?width=320&height=240&fps=30&seed="


def cameras() -> dict[str, SourceOptions]:
    """Each with what shall happen to it, within the first ten seconds and then again and again."""
    common: dict[str, Any] = {"reconnect": "always", "stale_after": 0.5, "timeout": 1.5, "frozen_after": 1.0}
    common["backoff"] = Backoff(longest=1.0)
    queued: dict[str, Any] = {"policy": "every", "max_rate": 10, "max_age": 1.0}
    return {
        "freezing": SourceOptions(f"fault+{TABLE}1?drop=0.05&freeze=2s@1s/11s&seed=1", **common),
        "resizing": SourceOptions(f"fault+{TABLE}2?delay=200ms&resize=160x128*2s@1s/6s&corrupt=0.02&seed=2", **common),
        "leaving": SourceOptions(f"fault+{TABLE}3?disconnect=2s&seed=3", **queued, **common),
        "hanging": SourceOptions(f"fault+{TABLE}4?hang=3s@1s/8s&drop=5@2s/4s&seed=4", max_age=0.5, **common),
    }


EXPECTED = {"freezing": "frozen", "resizing": "live", "leaving": "reconnecting", "hanging": "stale", "rtsp": "live"}


class Soak:
    """One run.

    Args:
        seconds: How long.
        server: Killed and started again now and then; None: there is none.
    """

    def __init__(self, seconds: float, server: RtspServer | None) -> None:
        self._seconds = seconds
        self._server = server
        self._stop = threading.Event()
        self._began = time.monotonic()
        self.states: Counter[tuple[str, str]] = Counter()
        self.results: Counter[str] = Counter()
        self.sizes: set[tuple[int, int]] = set()
        self.rate: list[tuple[float, int]] = []
        self.reports: tuple[SourceReport, ...] = ()
        self.errors: list[str] = []
        self.close_s = 0.0

    def run(self, model: Model) -> None:
        """Stream until the time is over."""
        sources = cameras()
        if self._server is not None:
            sources["rtsp"] = SourceOptions(self._server.url, reconnect="always", timeout=2, backoff=Backoff(longest=1))
        model.set_text(PROMPTS[0])
        results = stream(model, sources, on_state=self._told)
        helpers = [threading.Thread(target=self._change_prompts, args=(model,), daemon=True)]
        if self._server is not None:
            helpers.append(threading.Thread(target=self._restart, daemon=True))
        results.start(self._result, lambda error: self.errors.append(f"{type(error).__name__}: {error}"))
        for helper in helpers:
            helper.start()
        while time.monotonic() - self._began < self._seconds and not self.errors:
            time.sleep(min(1.0, self._seconds / 20))
            self.rate.append((time.monotonic() - self._began, self.results.total()))
        self._stop.set()
        for helper in helpers:
            helper.join()
        closing = time.monotonic()
        results.close()
        self.close_s = time.monotonic() - closing
        self.reports = results.reports

    def _told(self, change: StateChange) -> None:
        self.states[change.source, change.state] += 1

    def _result(self, frame: Any, result: Result) -> None:
        self.results[result.source] += 1
        self.sizes.add(frame.image.shape[1::-1])
        if result.state == "live" and result.age_ms > 1500:
            self.errors.append(f"{result.source}: a result of {result.age_ms:.0f} ms is called live")

    def _change_prompts(self, model: Model) -> None:
        chance = random.Random(3)
        while not self._stop.wait(chance.uniform(0.5, 4)):
            model.set_text(chance.choice(PROMPTS))

    def _restart(self) -> None:
        chance = random.Random(5)
        assert self._server is not None
        while not self._stop.wait(chance.uniform(8, 20)):
            self._server.kill()
            self._stop.wait(chance.uniform(0.5, 5))
            self._server.start()


def judge(soak: Soak, grown: dict[str, float], left: int) -> list[dict[str, Any]]:
    """Every goal and whether it was met."""
    goals = [verdict(f"{name} grown", round(grown[name], 2), LIMITS[name], at_most=True) for name in UNITS]
    goals.append(verdict("seconds to close", round(soak.close_s, 2), CLOSE_S, at_most=True))
    goals.append(verdict("threads left behind", left, 1, at_most=True))
    goals.append(verdict("errors", len(soak.errors), 0, at_most=True))
    for report in soak.reports:
        lost = report.read - report.processed - report.errors - sum(report.dropped.values()) + report.dropped["source"]
        goals.append(verdict(f"{report.name}: frames unaccounted for", abs(lost), 0, at_most=True))
        goals.append(verdict(f"{report.name}: results", soak.results[report.name], 5))
        state = EXPECTED[report.name]
        goals.append(verdict(f"{report.name}: times {state}", soak.states[report.name, state], 1))
    goals.append(verdict("sizes of frames", len(soak.sizes), 2))
    return goals


def with_few_arenas() -> None:
    """Start again with the setting that the C library reads when a process begins."""
    if ARENAS not in os.environ:
        os.environ[ARENAS] = "2"
        os.execv(sys.executable, [sys.executable, *sys.argv])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rtsp", type=Path, help="the folder of test inputs, with video/ in it")
    parser.add_argument("--name", default="soak", help="of the files")
    parser.add_argument("--out", type=Path, default=RESULTS, help="their folder")
    arguments = parser.parse_args()
    with_few_arenas()
    seconds = 60 * arguments.minutes
    # Caches and memory pools fill: the renderer's with every eighth second of a camera.
    warm_up = min(180.0, seconds / 2)
    with ExitStack() as stack:
        server = None
        if arguments.rtsp is not None:
            lacking = missing()
            if lacking:
                parser.error(lacking)
            server = stack.enter_context(RtspServer(arguments.rtsp / "video" / "bottle-detection.mp4"))
        model = stack.enter_context(load(threads=THREADS))
        soak = Soak(seconds, server)
        with Sampler(min(1.0, seconds / 40)) as sampler:
            soak.run(model)
    time.sleep(0.2)
    ours = ("read ", "close ", "watch sources", "run model")
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith(ours)]
    grown = growth(sampler.after(warm_up))
    goals = judge(soak, grown, len(left))
    draw(arguments.out / f"{arguments.name}.png", sampler.samples, soak.rate, warm_up, grown)
    judged_h = (sampler.samples[-1].seconds - warm_up) / 3600
    write(
        arguments.out / f"{arguments.name}.json",
        {
            "machine": machine(THREADS),
            "minutes": arguments.minutes,
            ARENAS: os.environ[ARENAS],
            "warm_up_s": warm_up,
            "grown": {name: round(value, 3) for name, value in grown.items()},
            "slope_per_hour": {name: round(value / judged_h, 3) for name, value in grown.items()},
            "goals": goals,
            "errors": soak.errors[:10],
            "states": {f"{name}: {state}": count for (name, state), count in sorted(soak.states.items())},
            "sources": [report.to_json() for report in soak.reports],
            "samples": columns(sampler.samples),
        },
    )
    return 0 if all(goal["met"] for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
