"""A stream whose RTSP server is killed and started again, many times.

    python benchmarks/reconnect.py --data ../shared/data [--times 20] [--write]

Says for each time how long after the server took connections the first live result came, and what the process holds in
the end compared with after the second time. Exit code 1 where it took longer than 3 s, a result in between was not
marked, or something grew.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from contenders.report import RESULTS, machine
from stream_bench.vitals import UNITS, Vitals, now

from mmedge.model import load
from mmedge.results import Result
from mmedge.streaming import StateChange, Stream

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.rtsp import RtspServer, missing

LIMITS = {"memory_mb": 5.0, "threads": 0.0, "descriptors": 0.0}
BACK_S = 3.0
WARM_UP = 2


class Watcher:
    """Goes through the results in a thread, and remembers what came when."""

    def __init__(self) -> None:
        self.states: list[tuple[float, str]] = []
        self.newest: Result | None = None
        self.unmarked = 0
        self.down_at: float | None = None
        self._changed = threading.Condition()

    def told(self, change: StateChange) -> None:
        with self._changed:
            self.states.append((change.at, change.state))
            self._changed.notify_all()

    def result(self, frame: object, result: Result) -> None:
        with self._changed:
            self.newest = result
            # What was on its way when the server went may still be called live, for as long as it is young.
            self.unmarked += bool(self.down_at and result.captured > self.down_at + 0.5 and result.state == "live")
            self._changed.notify_all()

    def wait(self, what: Any, timeout: float) -> bool:
        with self._changed:
            return bool(self._changed.wait_for(what, timeout))


def once(server: RtspServer, watcher: Watcher, chance: random.Random) -> dict[str, Any]:
    """Kill the server, wait, start it; what was seen."""
    frozen = chance.random() < 0.25
    lost = sum(state == "reconnecting" for _, state in watcher.states)
    if frozen:
        server.freeze()
    gone = watcher.down_at = time.monotonic()
    if not frozen:
        server.kill()
    noticed = watcher.wait(lambda: sum(state == "reconnecting" for _, state in watcher.states) > lost, 15)
    noticed_s = time.monotonic() - gone
    server.kill()
    down_s = chance.uniform(0.2, 6)
    time.sleep(down_s)
    watcher.down_at = None
    server.start()
    up = time.monotonic()

    def back() -> bool:
        newest = watcher.newest
        return newest is not None and newest.captured > up and newest.state == "live"

    watcher.wait(back, 15)
    back_s = time.monotonic() - up
    time.sleep(chance.uniform(0.5, 1.5))
    return {
        "frozen first": frozen,
        "noticed": noticed,
        "noticed_s": round(noticed_s, 2),
        "down_s": round(down_s, 2),
        "back_s": round(back_s, 2),
    }


def settled_vitals(stream: Stream, began: float) -> Vitals:
    time.sleep(1.0)
    gc.collect()
    return now(began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of test inputs, with video/ in it")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}/reconnect.json")
    arguments = parser.parse_args()
    lacking = missing()
    if lacking:
        print(lacking)
        return 1
    chance, began, watcher = random.Random(7), time.monotonic(), Watcher()
    rows, vitals = [], []
    with RtspServer(arguments.data / "video" / "bottle-detection.mp4") as server, load(threads=1) as model:
        model.set_text(["a ball", "a cube"])
        options: dict[str, Any] = {"timeout": 2.0, "max_rate": 10}
        with model.stream(server.url, on_state=watcher.told, **options) as stream:
            stream.start(watcher.result)
            watcher.wait(lambda: watcher.newest is not None, 15)
            for _ in range(WARM_UP + arguments.times):
                rows.append(once(server, watcher, chance))
                vitals.append(settled_vitals(stream, began))
                print(rows[-1], vitals[-1], flush=True)
            report = stream.reports[0]
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith(("read ", "close "))]
    rows, base, last = rows[WARM_UP:], vitals[WARM_UP - 1], vitals[-1]
    grown = {name: round(getattr(last, name) - getattr(base, name), 2) for name in UNITS}
    slowest = max(row["back_s"] for row in rows)
    good = (
        slowest <= BACK_S
        and all(row["noticed"] for row in rows)
        and not watcher.unmarked
        and not left
        and all(grown[name] <= LIMITS[name] for name in UNITS)
    )
    summary = {
        "times": len(rows),
        "back_s": {"median": round(statistics.median(row["back_s"] for row in rows), 2), "slowest": slowest},
        "live results in between": watcher.unmarked,
        "reconnects": report.reconnects,
        "grown": grown,
        "left threads": left,
        "passed": good,
    }
    print(json.dumps(summary, indent=1))
    if arguments.write:
        RESULTS.mkdir(exist_ok=True)
        whole = {"machine": machine(1), **summary, "limits": {"back_s": BACK_S, **LIMITS}, "each": rows}
        (RESULTS / "reconnect.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
