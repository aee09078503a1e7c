"""The model on the device: prompts in, frames in, results out."""

from __future__ import annotations

import enum
import itertools
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmedge.errors import FrameInputError, InputError
from mmedge.in_use import InUse
from mmedge.inputs import missing_input
from mmedge.inputs.image import FrameArray
from mmedge.inputs.text import check_prompts
from mmedge.loaded import Change, Loaded, LoadOptions, load_bundle
from mmedge.moment import Moment, check_times, frame_now
from mmedge.results import Result
from mmedge.selection import EngineSpec
from mmedge.sources.frame import Frame
from mmedge.swapping import check_goldens

if TYPE_CHECKING:
    from mmedge.sources import SourceLike
    from mmedge.streaming import Stream

_log = logging.getLogger("mmedge")


class Same(enum.Enum):
    """Stands for what was asked for the bundle before."""

    SAME = "as for the bundle before"


SAME = Same.SAME


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    engine: EngineSpec = "auto",
    precision: str | None = None,
    threads: int | None = None,
    threshold: float | None = None,
    prompt_cache: int = 16,
) -> Model:
    """Load a bundle, ready to run. Close the model, or use it in a ``with`` statement.

    Args:
        path: ``NAME.mmedge``, a file or a folder; None for the built-in tabletop model.
        engine: ``NAME`` or ``NAME:DEVICE``, see `mmedge.engines.open_engine`; a mapping from stage to these; or
            ``auto`` for what is fastest here, stage by stage. The log and `Model.info` say what really runs.
        precision: A variant of the bundle; None for the fastest one of those that were verified against the source
            model. What is left open is measured for a few seconds at the first load, and remembered (`mmedge.cache`).
        threads: CPU threads of a stage; None leaves it to the engine.
        threshold: For models that find boxes: the lowest score of a detection; None for the bundle's own.
        prompt_cache: Number of prompt lists whose stages need not run again when they come back.

    Raises:
        BundleError: The bundle cannot be read, is damaged, or has no such variant.
        EngineError: The engine is missing or refused a stage.
        InputError: `threshold` or `prompt_cache` cannot be used.
        MissingDependencyError: A library that the model needs is not installed.
    """
    return Model(load_bundle(path, LoadOptions(engine, precision, threads, threshold, prompt_cache)))


class Model:
    """A loaded bundle; `load` makes it.

    Any thread may call any method. Frames are run one at a time, or several together in `run_batch`; `set_text`,
    `update` and `swap` do their work beside a running frame and take effect with the next one, as a whole.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._in_use = InUse(loaded)
        # It may be taken again by its own thread: a signal handler runs in the middle of whatever that does.
        self._swapping = threading.RLock()
        self._numbers = itertools.count()

    def set_text(self, prompts: Sequence[str]) -> None:
        """Set what to look for. The text stages run here, or not at all if the same list was set not long ago.

        Args:
            prompts: At least one; the scores of the results are in this order.

        Raises:
            TextInputError: The model takes no text, or `prompts` cannot be used.
            EngineError: A text stage failed, or the model is closed. The prompts from before stay in force.
        """
        self._loaded.takes_text()
        labels = check_prompts(prompts)
        self._in_use.change(lambda loaded: loaded.takes_text().modality, lambda loaded: loaded.with_prompts(labels))

    def update(self, modality: str, /, **tensors: npt.NDArray[Any]) -> None:
        """Set the tensors of a modality that is neither frame nor text, such as a window of sensor values.

        Args:
            modality: Its name in the manifest.
            tensors: Every tensor of it by name; dtypes and shapes are those of the manifest. They are copied. Their
                age, `Result.input_ages_ms`, counts from this call.

        Raises:
            TensorInputError: A name, dtype or shape is another, or a value is not finite.
            EngineError: A stage failed, or the model is closed. The tensors from before stay in force.
        """
        moment, copied = Moment.now(), self._loaded.checked(modality, tensors)

        def prepared(loaded: Loaded) -> Change:
            # Once more, for a bundle that came meanwhile.
            return loaded.with_tensors(modality, loaded.checked(modality, copied), moment)

        self._in_use.change(lambda loaded: loaded.takes_tensors(modality)[0], prepared)

    def __call__(self, frame: FrameArray | Frame | None = None) -> Result:
        """Run the model on a frame, with the prompts and tensors that were set last.

        Args:
            frame: uint8 [H, W, 3], BGR, as OpenCV gives it; its age counts from this call. Whoever knows better when it
                was taken gives an `mmedge.Frame`, as the sources do. None for a model without frames.

        Raises:
            FrameInputError, TextInputError, TensorInputError: An input is missing or cannot be used, or the times of a
                `Frame` are none.
            EngineError: A stage failed, or the model is closed.
            TaskError: The outputs are not finite, or not what the manifest promises.
        """
        # Before the wait for the frame that is running: the age of a frame counts that too.
        return self._in_use.run([self._as_frame(frame)])[0]

    def run_batch(self, frames: Sequence[FrameArray | Frame | None]) -> list[Result]:
        """Run the model on several frames at once, such as those of several cameras, all with the same prompts.

        What depends on frames alone runs once for up to `max_batch` of them, and what depends on prompts as well for
        each. Where `max_batch` is 1 they run one after the other.

        Args:
            frames: As in `__call__`; of any sizes.

        Returns:
            A result for each, in this order. `latency_ms` counts from the moment when work began on the frames that
            ran together until this result was there, so it holds the wait for the others; ages are each frame's own.

        Raises:
            What `__call__` raises, for the first frame that fails; there are no results then.
        """
        if isinstance(frames, (str, bytes, np.ndarray, Frame)) or not isinstance(frames, Sequence):
            raise FrameInputError(f"run_batch takes a list of frames, got {type(frames).__name__}; use [frame]")
        return self._in_use.run([self._as_frame(frame) for frame in frames])

    def swap(
        self,
        path: str | os.PathLike[str] | None,
        *,
        engine: EngineSpec | Same = SAME,
        precision: str | Same | None = SAME,
        threads: int | Same | None = SAME,
        threshold: float | Same | None = SAME,
    ) -> None:
        """Replace the bundle while frames run. No frame waits, and none sees parts of both.

        The new bundle is loaded beside the old one, must give its goldens here, and takes over the prompts and tensors
        in force; a black frame is run on it, so that the first real one is not the slow one. Then it answers the next
        frame, and the old one is closed after the frame that it is at. `prompt_version` goes on counting. Until then
        both are in memory. The task may be another: results are then of another class.

        Args:
            path, engine, precision, threads, threshold: As in `load`; what is left out is as for the bundle before.

        Raises:
            BundleError: As in `load`, or the bundle does not give its goldens here, or has none.
            EngineError: As in `load`, or a stage failed, or the model is closed.
            InputError: The new bundle does not take the prompts or tensors in force, needs some that are not set, or
                one of the two takes frames and the other does not.
            MissingDependencyError: As in `load`.

            After any error the old bundle goes on as if nothing had happened, and the new one is closed.
        """
        asked: dict[str, Any] = {"engine": engine, "precision": precision, "threads": threads, "threshold": threshold}
        with self._swapping:
            changed = {name: value for name, value in asked.items() if value is not SAME}
            new = load_bundle(path, replace(self._loaded.options, **changed))
            try:
                check_goldens(new)
                old = self._in_use.take(new)
            except BaseException:
                new.retire()
                raise
        _log.info("%s %s took over from %s %s", *_version(new), *_version(old))
        old.retire()

    def stream(self, source: SourceLike | Sequence[SourceLike], **options: Any) -> Stream:
        """The results of cameras, videos or pictures, one by one; see `mmedge.streaming.stream` for all arguments."""
        from mmedge.streaming import stream

        _ = self._loaded  # a model that was closed says so here, and not at the first frame
        return stream(self, source, **options)

    def warmup(self, runs: int = 3) -> None:
        """Run black frames, so that the first real one is not the slow one.

        Raises what `__call__` raises, and InputError if `runs` is no whole number of at least 0.
        """
        if isinstance(runs, bool) or not isinstance(runs, int) or runs < 0:
            raise InputError(f"runs must be a whole number of at least 0, got {runs!r}")
        image = self._loaded.image
        size = (1, 1) if image is None else image.contract.size
        for _ in range(runs):
            self._in_use.run([frame_now(np.zeros((*size, 3), np.uint8), "warmup", 0)])

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts in force; () before the first `set_text` and for a model without text."""
        return self._in_use.settings.labels or ()

    @property
    def prompt_version(self) -> int:
        """Counts the `set_text` and `swap` calls; 0 before the first."""
        return self._in_use.settings.version

    @property
    def max_batch(self) -> int:
        """Most frames that run at once in `run_batch`; 1 for a bundle or an engine that takes them one by one."""
        return self._loaded.max_batch

    def stats(self) -> dict[str, dict[str, Any]]:
        """What each stage of the bundle in use did, by its name: the fields of `mmedge.stages.StageStats` as JSON
        values. Frames that ran at once count as one run."""
        return self._loaded.stats()

    def info(self) -> dict[str, Any]:
        """What was loaded and on what it really runs, as JSON values."""
        state = self._in_use.state
        return state.loaded.info(state.settings)

    def close(self) -> None:
        """Let go of the engines and the bundle, after the frame that is running. Safe to call twice.

        A signal handler may call it: a frame that it interrupts still gets its result.
        """
        self._in_use.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _loaded(self) -> Loaded:
        return self._in_use.state.loaded

    def _as_frame(self, frame: FrameArray | Frame | None) -> Frame:
        loaded = self._loaded
        if frame is None and loaded.image is not None:
            raise missing_input(loaded.image.modality, loaded.image.contract)
        if frame is not None and loaded.image is None:
            raise FrameInputError(f"{loaded.manifest.name} takes no frame; call it without one")
        if isinstance(frame, Frame):
            check_times(frame)
            return frame
        if frame is None:
            return frame_now(np.zeros((1, 1, 3), np.uint8), "tensors", next(self._numbers))
        return frame_now(frame, "array", next(self._numbers))


def _version(loaded: Loaded) -> tuple[str, str]:
    return loaded.manifest.name, loaded.manifest.version
