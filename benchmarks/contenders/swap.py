"""What a change of prompts costs while frames run: how long it takes, and whether a frame waits for it."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any

from contenders.turns import Frame

BETWEEN = 8
"""Frames that run before each swap, and after the last."""


class Frames(threading.Thread):
    """Runs frames one after the other until told to stop, and notes when each was done and by which prompts."""

    def __init__(self, model: Any, frames: Frame) -> None:
        super().__init__(daemon=True)
        self._model, self._frames = model, frames
        self._stopped = threading.Event()
        self.done: list[tuple[float, int, tuple[str, ...]]] = []

    def run(self) -> None:
        count = 0
        while not self._stopped.is_set():
            result = self._model(self._frames[count % len(self._frames)])
            self.done.append((time.perf_counter(), result.prompt_version, tuple(result.labels)))
            count += 1

    def wait(self, more: int) -> None:
        """Until so many more frames are done."""
        goal = len(self.done) + more
        while len(self.done) < goal and self.is_alive():
            time.sleep(0.002)

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def swap_prompts(contender: Any, frames: Frame, lists: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Set each of `lists`, none of which was set before, while another thread runs frames.

    Returns:
        ``swap_ms``: of each `set_text`; ``frame_ms``: the usual frame beside no swap; ``longest_frame_ms``: of the
        frames that ran during each swap; ``frames_during``: how many were done before it was; ``mixed``: results whose
        labels are not those of their prompt version.
    """
    runner = Frames(contender.model, frames)
    said = {contender.model.prompt_version: tuple(contender.model.prompts)}
    runner.start()
    spans = []
    try:
        for prompts in lists:
            runner.wait(BETWEEN)
            began = time.perf_counter()
            contender.model.set_text(list(prompts))
            spans.append((began, time.perf_counter()))
            said[contender.model.prompt_version] = tuple(prompts)
        runner.wait(BETWEEN)
    finally:
        runner.stop()
    times = [at for at, _, _ in runner.done]
    gaps = [(end - begin, begin, end) for begin, end in itertools.pairwise(times)]
    beside = [[gap for gap, begin, end in gaps if begin < over and end > since] for since, over in spans]
    usual = [gap for gap, begin, end in gaps if not any(begin < over and end > since for since, over in spans)]
    return {
        "swap_ms": [round(1000 * (over - since), 2) for since, over in spans],
        "frame_ms": round(1000 * statistics.median(usual), 2),
        "longest_frame_ms": [round(1000 * max(each, default=0.0), 2) for each in beside],
        "frames_during": [sum(since < at < over for at in times) for since, over in spans],
        "mixed": sum(labels != said[version] for _, version, labels in runner.done),
    }
