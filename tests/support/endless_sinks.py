"""A process that writes to sinks until it is killed."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from mmedge.sinks.jsonl import JsonLines
from mmedge.sinks.mcap import Mcap
from support.sink_items import event, observation

EVENT_EVERY = 10


def write_endlessly(folder: Path, first: int, done: Connection) -> None:
    """Write results, and every tenth time an event, numbered from `first`; tell each number once both took it.

    Small files, so that kills also come while one is finished and the next begun.
    """
    lines = JsonLines(folder / "out.jsonl", max_bytes=60_000, keep=1000)
    recording = Mcap(folder / "out.mcap", max_bytes=400_000, keep=None)
    number = first
    while True:
        item = event(number, pixels=False) if number % EVENT_EVERY == 0 else observation(number, size=(160, 120))
        lines.write(item)
        recording.write(item)
        done.send(number)
        number += 1
