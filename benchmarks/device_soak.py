"""A whole device, for minutes or hours: does anything grow?

    python benchmarks/device_soak.py [--minutes 30] [--rerun] [--name device-soak]

Four synthetic cameras with faults, one model, triggers that fire all the time, privacy, JSON Lines and MCAP with files
that follow each other, MQTT where a mosquitto is installed, with ``--rerun`` .rrd files, and the dashboard with a
client (in a process of its own) that watches and changes the prompts. Memory, threads and descriptors of the device's
process are taken once a second, drawn to ``results/NAME.png`` and written to ``results/NAME.json``. The
memory arenas are those of `mmedge serve`.

Exit code 1 where one of them grew, a camera or sink did nothing or failed, or the device did not end in time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from contenders.report import RESULTS, machine, verdict, write
from stream_bench.drawing import draw
from stream_bench.vitals import UNITS, Sampler, columns, growth

from mmedge.device.device import Device
from mmedge.device.reading import parse_config
from mmedge.device.status import Status
from mmedge.memory import limit_arenas
from mmedge.server.running import Server

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.mqtt_broker import PROGRAM, Mosquitto

LIMITS = {"memory_mb": 5.0, "threads": 1.0, "descriptors": 1.0}
THREADS = 1
STOP_S = 2.4
"""2 s, and something for a busy machine."""

PROMPTS = (["a cube", "a ball"], ["a cube", "the red cube"], ["a cube", "a cone", "the blue ball"])
TABLE = "tabletop://?fps=15&seed="
TRIGGERS = "\n".join(
    f'[triggers.{shape}]\nprompt = "a {shape}"\non = 0.4\noff = 0.35\nmin_duration = 0\nend_after = 0.1\ncool_down = 0'
    for shape in ("cube", "ball", "ring", "cone", "cylinder")
)
DEVICE = f"""
[models.table]
prompts = ["a cube", "a ball"]
threads = {THREADS}
[sources.freezing]
url = "fault+{TABLE}1?drop=0.05&freeze=2s@1s/11s&seed=1"
frozen_after = 1.0
max_rate = 5
[sources.leaving]
url = "fault+{TABLE}2?disconnect=5s/9s&seed=2"
max_rate = 5
[sources.hanging]
url = "fault+{TABLE}3?hang=3s@1s/8s&drop=5@2s/4s&seed=4"
timeout = 1.5
max_rate = 5
[sources.resizing]
url = "fault+{TABLE}4?resize=320x240*2s@1s/6s&corrupt=0.02&seed=4"
max_rate = 5
[privacy]
blur = ["the yellow thing"]
{TRIGGERS}
[sinks.lines]
kind = "jsonl"
path = "soak.jsonl"
max_bytes = 1000000
keep = 2
[sinks.recording]
kind = "mcap"
path = "soak.mcap"
segment_s = 20
keep = 2
"""
RERUN = '[sinks.rerun]\nkind = "rerun"\npath = "soak.rrd"\nmax_bytes = 50000000\nkeep = 2\n'
MQTT = '[sinks.broker]\nkind = "mqtt"\nhost = "127.0.0.1"\nport = {port}\n'


def watch(address: str) -> None:
    """The client: takes pictures and results, changes the prompts, looks at the events. Says what it got when its
    standard input ends."""
    from websockets.sync.client import connect

    chance = random.Random(3)
    ended = threading.Event()

    def until_told() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=until_told, daemon=True).start()
    got, changes, due = 0, 0, time.monotonic() + 2
    with connect(address.replace("http", "ws", 1) + "/api/v1/live", max_size=2**24) as socket:
        socket.send(json.dumps({"type": "watch", "rate": 5}))
        while not ended.is_set():
            got += isinstance(socket.recv(timeout=20), bytes)
            if time.monotonic() < due:
                continue
            due = time.monotonic() + chance.uniform(1, 8)
            body = json.dumps({"prompts": chance.choice(PROMPTS)}).encode()
            head = {"content-type": "application/json"}
            urllib.request.urlopen(
                urllib.request.Request(f"{address}/api/v1/models/table/prompts", body, head, method="PUT"), timeout=20
            ).read()
            changes += 1
            events = json.load(urllib.request.urlopen(f"{address}/api/v1/events?limit=200", timeout=20))
            for event in events[-1:]:
                picture = f"{address}/api/v1/events/{event['id']}/frame.jpg?drawn=true"
                # The oldest event may be forgotten between the two questions.
                with contextlib.suppress(urllib.error.HTTPError):
                    urllib.request.urlopen(picture, timeout=20).read()
    print(json.dumps({"pictures": got, "changes": changes}))


def run(device: Device, seconds: float, rate: list[tuple[float, int]], stack: ExitStack) -> dict[str, Any]:
    """Serve the device for so long; returns what the client got."""
    server = stack.enter_context(Server(device, device.config.server))
    client = subprocess.Popen(
        [sys.executable, __file__, "--watch", server.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stack.callback(client.kill)
    began = time.monotonic()
    while time.monotonic() - began < seconds and client.poll() is None:
        time.sleep(min(1.0, seconds / 20))
        done = sum(source["processed"] for source in device.status()["sources"].values())
        rate.append((time.monotonic() - began, done))
    try:
        said = client.communicate("", timeout=30)[0]
    except subprocess.TimeoutExpired:
        said = ""
    got: dict[str, Any] = json.loads(said) if said.strip() else {"pictures": 0, "changes": 0}
    return got


def judge(
    status: Status, events: int, got: dict[str, Any], grown: dict[str, float], stop_s: float, left: list[str]
) -> list[dict[str, Any]]:
    """Every goal and whether it was met."""
    goals = [verdict(f"{name} grown", round(grown[name], 2), LIMITS[name], at_most=True) for name in UNITS]
    goals.append(verdict("seconds to stop", round(stop_s, 2), STOP_S, at_most=True))
    goals.append(verdict("threads left behind", len(left), 0, at_most=True))
    goals += [verdict(f"{name}: results", one["processed"], 5) for name, one in status["sources"].items()]
    for name, sink in status["sinks"].items():
        goals.append(verdict(f"{name}: written", sink["written"], 20))
        goals.append(verdict(f"{name}: errors", sink["errors"], 0, at_most=True))
    goals.append(verdict("events kept", events, 5))
    goals.append(verdict("pictures that the client got", got["pictures"], 20))
    goals.append(verdict("changes of prompts", got["changes"], 3))
    return goals


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rerun", action="store_true", help="with a rerun sink")
    parser.add_argument("--name", default="device-soak", help="of the files")
    parser.add_argument("--out", type=Path, default=RESULTS, help="their folder")
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.watch:
        watch(arguments.watch)
        return 0
    limit_arenas()
    seconds = 60 * arguments.minutes
    # Caches and memory pools fill, and the history of events.
    warm_up = min(300.0, seconds / 2)
    rate: list[tuple[float, int]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        text = DEVICE + (RERUN if arguments.rerun else "")
        if PROGRAM is not None:
            broker = Mosquitto(folder)
            stack.callback(broker.stop)
            text += MQTT.format(port=broker.port)
        device = Device(parse_config("[server]\nport = 0\n" + text, folder))
        device.start()
        with Sampler(min(1.0, seconds / 40)) as sampler, ExitStack() as serving:
            got = run(device, seconds, rate, serving)
            status, events = device.status(), len(device.events(1000))
        stopping = time.monotonic()
        device.stop()
        stop_s = time.monotonic() - stopping
    # A camera that is in the middle of a hang of 3 s is left to itself, and its thread ends with it.
    time.sleep(4)
    ours = ("read ", "close ", "watch sources", "run model", "mmedge")
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith(ours)]
    grown = growth(sampler.after(warm_up))
    goals = judge(status, events, got, grown, stop_s, left)
    draw(arguments.out / f"{arguments.name}.png", sampler.samples, rate, warm_up, grown)
    judged_h = (sampler.samples[-1].seconds - warm_up) / 3600
    write(
        arguments.out / f"{arguments.name}.json",
        {
            "machine": machine(THREADS),
            "minutes": arguments.minutes,
            "device": text,
            "warm_up_s": warm_up,
            "grown": {name: round(value, 3) for name, value in grown.items()},
            "slope_per_hour": {name: round(value / judged_h, 3) for name, value in grown.items()},
            "goals": goals,
            "client": got,
            "left": left,
            "sinks": status["sinks"],
            "sources": status["sources"],
            "samples": columns(sampler.samples),
        },
    )
    return 0 if all(goal["met"] for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
