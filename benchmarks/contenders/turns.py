"""Processes that take turns: each holds one contender, and computes only when it is told to."""

from __future__ import annotations

import importlib
import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Contender(Protocol):
    """One way from a frame to its answer.

    Attributes:
        says: What really runs, for the report.
    """

    says: str

    def __call__(self, frame: Frame) -> Floats:
        """uint8 [H, W, 3] BGR → what is compared, such as the embedding [d]."""
        ...


@dataclass(frozen=True)
class Turn:
    """What a process did when it was its turn.

    Attributes:
        frame_s: Seconds of each frame.
        idle_cpu_s: Processor time that it took since its turn before, when it had nothing to do.
    """

    frame_s: list[float]
    idle_cpu_s: float


class Seat:
    """A contender in a process of its own.

    Args:
        make: ``module:function``; called in the process with `job`, gives a `Contender`.
        job: Whatever that function needs; picklable.
        frames: A .npy file of uint8 [n, H, W, 3] frames.

    Raises:
        RuntimeError: The contender could not be made; the message holds its own words.
    """

    def __init__(self, make: str, job: Any, frames: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._end, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make, job, frames), daemon=True)
        self._process.start()
        other.close()
        self.says: str = self._answer()

    def turn(self, first: int, count: int) -> Turn:
        """Run `count` frames, from frame number `first` on."""
        turn: Turn = self._ask("turn", first, count)
        return turn

    def answers(self, indices: Sequence[int]) -> Floats:
        """What it says of these frames, [n, d]."""
        rows: Floats = self._ask("answers", list(indices))
        return rows

    def call(self, function: str, *arguments: Any) -> Any:
        """Run ``module:function`` in the process on the contender, the frames and `arguments`."""
        return self._ask("call", function, arguments)

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._end.send(None)
            self._process.join(20)
        if self._process.is_alive():
            self._process.kill()
        self._end.close()

    def _ask(self, *request: Any) -> Any:
        self._end.send(request)
        return self._answer()

    def _answer(self) -> Any:
        try:
            worked, value = self._end.recv()
        except EOFError as error:
            raise RuntimeError(f"the process ended with {self._process.exitcode}") from error
        if not worked:
            raise RuntimeError(value)
        return value


def load_function(name: str) -> Callable[..., Any]:
    """The function that ``module:function`` names."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _serve(end: Connection, make: str, job: Any, file: str) -> None:
    try:
        contender: Contender = load_function(make)(job)
        frames = np.load(file, mmap_mode="r")
        contender(frames[0])
        end.send((True, contender.says))
    except Exception:
        # Any library may raise anything; the parent decides whether to go on without it.
        end.send((False, traceback.format_exc(limit=-3)))
        return
    rested = time.process_time()
    while (request := end.recv()) is not None:
        idle = time.process_time() - rested
        try:
            end.send((True, _do(contender, frames, idle, *request)))
        except Exception:
            end.send((False, traceback.format_exc(limit=-3)))
        rested = time.process_time()


def _do(contender: Contender, frames: Frame, idle: float, what: str, *arguments: Any) -> Any:
    if what == "answers":
        return np.stack([contender(frames[index]) for index in arguments[0]])
    if what == "call":
        return load_function(arguments[0])(contender, frames, *arguments[1])
    first, count = arguments
    seconds = []
    for index in range(first, first + count):
        began = time.perf_counter()
        contender(frames[index % len(frames)])
        seconds.append(time.perf_counter() - began)
    return Turn(seconds, idle)
