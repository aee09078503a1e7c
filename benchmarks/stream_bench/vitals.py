"""What a process holds: memory, threads, descriptors, once a second."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass, fields

import numpy as np
import psutil


@dataclass(frozen=True)
class Vitals:
    """Of this process at one moment.

    Attributes:
        seconds: Since the first sample.
        memory_mb: Resident memory but for that of files, such as libraries, in MB of 10^6 bytes: how much of a library
            is resident depends on other processes.
        threads: Threads, those of libraries included.
        descriptors: Open files, sockets, pipes.
    """

    seconds: float
    memory_mb: float
    threads: int
    descriptors: int


UNITS = {"memory_mb": "MB", "threads": "threads", "descriptors": "descriptors"}


def now(began: float) -> Vitals:
    """The vitals of this process; `began` in seconds of `time.monotonic`."""
    process = psutil.Process()
    with process.oneshot():
        memory = process.memory_info()
        anonymous = (memory.rss - memory.shared) / 1e6
        return Vitals(time.monotonic() - began, anonymous, process.num_threads(), process.num_fds())


class Sampler:
    """Takes vitals every `interval` seconds in a thread of its own; a ``with`` statement starts and ends it."""

    def __init__(self, interval: float = 1.0) -> None:
        self.samples: list[Vitals] = []
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="vitals", daemon=True)

    def _work(self) -> None:
        began = time.monotonic()
        while True:
            self.samples.append(now(began))
            if self._stop.wait(self._interval):
                return

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def after(self, seconds: float) -> list[Vitals]:
        """The samples after the first `seconds`, in which caches fill."""
        return [sample for sample in self.samples if sample.seconds >= seconds]


def growth(samples: list[Vitals]) -> dict[str, float]:
    """By how much each quantity grew from the first to the last sample along the line that fits best (Theil and Sen's:
    the median of the slopes of all pairs, so that a peak does not tilt it)."""
    times = np.array([sample.seconds for sample in samples])
    first, second = np.triu_indices(len(samples), 1)
    grown = {}
    for name in UNITS:
        values = np.array([float(getattr(sample, name)) for sample in samples])
        slopes = (values[second] - values[first]) / (times[second] - times[first])
        grown[name] = float(np.median(slopes) * (times[-1] - times[0]))
    return grown


def columns(samples: list[Vitals]) -> dict[str, list[float]]:
    """The samples as JSON values, by quantity."""
    return {field.name: [round(asdict(s)[field.name], 2) for s in samples] for field in fields(Vitals)}
