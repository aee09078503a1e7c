"""Frames through the model."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, cast

from mmedge.errors import FrameInputError
from mmedge.results import Result
from mmedge.sources.frame import Frame
from mmedge.streaming.channel import Channel, Outcome
from mmedge.streaming.limited import Limited
from mmedge.streaming.supervisor import Supervisor
from mmedge.streaming.tracking import worse

log = logging.getLogger(__name__)

Pair = tuple[Frame, Result]


class FrameModel(Protocol):
    """Whatever turns a frame into a result, such as `mmedge.Model`.

    One that also has ``run_batch(frames) -> list[Result]`` and ``max_batch: int`` gets frames of several sources in one
    call.
    """

    def __call__(self, frame: Frame, /) -> Result: ...


class _BatchModel(FrameModel, Protocol):
    def run_batch(self, frames: Sequence[Frame], /) -> list[Result]: ...


class Runner:
    """Takes what is due and runs the model on it, in the thread that asks. Threads that ask at once wait in turn.

    Args:
        model: Turns frames into results.
        supervisor: Where frames come from; it is started by the first step and closed after the last.
        max_frames: End after so many results; None: no such end.
        max_batch: Most frames in one call of the model.
    """

    def __init__(self, model: FrameModel, supervisor: Supervisor, max_frames: int | None, max_batch: int) -> None:
        self._model = model
        self._supervisor = supervisor
        self._left = max_frames
        self._max_batch = max_batch
        self._ready: deque[Pair] = deque()
        self._stepping = threading.RLock()
        self._refusals = Limited(log)
        self._refusal: FrameInputError | None = None
        self._accepted = False

    def step(self) -> Pair | None:
        """The next frame and its result; None at the end.

        Raises:
            SourceError: See `Supervisor.take`.
            FrameInputError: The model refused every single frame.
            Exception: What the model raised. Everything is closed then.
        """
        with self._stepping:
            try:
                pair = self._next()
            except BaseException:
                self._supervisor.close()
                raise
            if pair is None:
                self._supervisor.close()
            return pair

    def close(self) -> None:
        """Close the sources; no more results come."""
        self._supervisor.close()

    def _next(self) -> Pair | None:
        if self._left != 0:
            self._supervisor.start()
        if self._supervisor.stopped:
            self._ready.clear()
        while not self._ready:
            limit = self._limit()
            taken = self._supervisor.take(limit) if limit else []
            if taken:
                self._run(taken)
            elif limit and self._refusal is not None and not self._accepted and not self._supervisor.stopped:
                raise self._refusal
            else:
                return None
        # Also where the stream was closed meanwhile: somebody waited for this one.
        return self._ready.popleft()

    def _limit(self) -> int:
        most = getattr(self._model, "max_batch", 1) if hasattr(self._model, "run_batch") else 1
        most = max(min(self._max_batch, most), 1)
        return most if self._left is None else min(most, self._left)

    def _run(self, taken: list[tuple[Channel, Frame]]) -> None:
        if len(taken) > 1:
            try:
                results = cast(_BatchModel, self._model).run_batch([frame for _, frame in taken])
                answered = list(zip(taken, results, strict=True))
            except FrameInputError:
                # One by one shows which it was.
                pass
            except BaseException:
                self._settle([channel for channel, _ in taken], "error")
                raise
            else:
                for (channel, frame), result in answered:
                    self._add(channel, frame, result)
                return
        for place, (channel, frame) in enumerate(taken):
            try:
                result = self._model(frame)
            except FrameInputError as error:
                self._refusal = error
                self._refusals(f"{channel.name}: frame {frame.index} was refused: {error}")
                self._settle([channel], "error")
            except BaseException:
                self._settle([channel], "error")
                self._settle([later for later, _ in taken[place + 1 :]], "closed")
                raise
            else:
                self._add(channel, frame, result)

    def _settle(self, channels: Sequence[Channel], outcome: Outcome) -> None:
        with self._supervisor.lock:
            for channel in channels:
                channel.done(outcome)

    def _add(self, channel: Channel, frame: Frame, result: Result) -> None:
        with self._supervisor.lock:
            state = worse(worse(result.state, frame.state), channel.state_of(result.captured, time.monotonic()))
            channel.done("processed")
        if state != result.state:
            result = replace(result, state=state)
        self._ready.append((frame, result))
        self._accepted = True
        if self._left is not None:
            self._left -= 1
