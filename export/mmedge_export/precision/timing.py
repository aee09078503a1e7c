"""How long a frame takes in each variant on each engine: short rounds in turn, so that all see the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmedge.bundle import Golden, Manifest, TextInput
from mmedge.program import StagedProgram

_ROUNDS = (5, 31)
_SECONDS = 8.0

Arrays = Mapping[str, npt.NDArray[Any]]


class FrameTimer:
    """Runs what a frame costs in one program: the prompts stand, everything else is new.

    Args:
        program: Loaded stages.
        goldens: Their sizes are those for which it is measured; at least one.
    """

    def __init__(self, program: StagedProgram, goldens: Sequence[Golden]) -> None:
        self._program = program
        self._contracts = program.manifest.inputs
        samples = [golden.inputs for golden in goldens]
        # A modality that is set to what it was runs nothing.
        self._samples = samples if len(samples) > 1 else [samples[0], _rolled(samples[0])]
        self._text = [
            {name: self._prepare(name, s) for name in self._contracts if not is_frame_side(program.manifest, name)}
            for s in self._samples
        ]

    def round(self) -> float:
        """Milliseconds of a frame: the mean over the samples."""
        began = time.perf_counter()
        for sample, text in zip(self._samples, self._text, strict=True):
            new = {name: self._prepare(name, sample) for name in self._contracts if name not in text}
            self._program.run({**text, **new})
        return (time.perf_counter() - began) * 1e3 / len(self._samples)

    def _prepare(self, modality: str, sample: Arrays) -> Any:
        tensors = {spec.name: sample[spec.name] for spec in self._contracts[modality].tensors}
        return self._program.prepare(modality, tensors)


def is_frame_side(manifest: Manifest, modality: str) -> bool:
    """Whether a modality changes from frame to frame: everything but text."""
    return not isinstance(manifest.inputs[modality], TextInput)


def measure(timers: Sequence[FrameTimer]) -> list[float]:
    """The median time of a frame of each, in milliseconds."""
    for timer in timers:
        timer.round()
    times: list[list[float]] = [[] for _ in timers]
    began = time.monotonic()
    for done in range(_ROUNDS[1]):
        if done >= _ROUNDS[0] and time.monotonic() - began > _SECONDS:
            break
        for timer, taken in zip(timers, times, strict=True):
            taken.append(timer.round())
    return [statistics.median(taken) for taken in times]


def quick(timer: FrameTimer) -> float:
    """The shortest of a few rounds, in milliseconds: what a frame takes at least."""
    return min(timer.round() for _ in range(4))


def _rolled(sample: Arrays) -> Arrays:
    return {name: np.roll(array, 1) if array.size > 1 else array for name, array in sample.items()}
