"""The model on the device: prompts in, frames in, results out."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmedge.bundle import Bundle, TensorInput
from mmedge.errors import EngineError, FrameInputError, InputError, TensorInputError, TextInputError
from mmedge.inputs import missing_input
from mmedge.inputs.image import FrameArray
from mmedge.inputs.tensor import check_tensors
from mmedge.inputs.text import check_prompts
from mmedge.loading import (
    choose_task,
    image_preprocessor,
    load_program,
    open_model,
    text_preprocessor,
)
from mmedge.moment import Moment, check_times, frame_now
from mmedge.program import StagedProgram
from mmedge.results import Result
from mmedge.selection import EngineSpec, Selection
from mmedge.settings import Settings
from mmedge.sources.frame import Frame
from mmedge.tasks import Context, interpret

if TYPE_CHECKING:
    from mmedge.sources import SourceLike
    from mmedge.stream import Stream

_log = logging.getLogger("mmedge")


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
    bundle = open_model(path)
    try:
        return Model(
            bundle, engine=engine, precision=precision, threads=threads, threshold=threshold, prompt_cache=prompt_cache
        )
    except BaseException:
        bundle.close()
        raise


class Model:
    """A loaded bundle; `load` makes it.

    Any thread may call any method. Frames are run one at a time; `set_text` and `update` do their work beside a running
    frame and take effect with the next one, as a whole.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        engine: EngineSpec,
        precision: str | None,
        threads: int | None,
        threshold: float | None,
        prompt_cache: int,
    ) -> None:
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._task = choose_task(bundle.manifest, threshold)
        selection = Selection(bundle, engine, precision, threads)
        self._chosen = selection.choice
        self._precision = self._chosen.precision
        engines = selection.engines()
        self._engines = tuple(engines.values())
        static_shapes = any(loaded.static_shapes for loaded in self._engines)
        self._text = text_preprocessor(bundle, static_shapes=static_shapes)
        self._image = image_preprocessor(bundle.manifest, threads)
        _log.info("%s runs as %s: %s", bundle.manifest.name, self._precision, self._chosen.why)
        self._program: StagedProgram | None = load_program(bundle, engines, self._precision, cache_entries=prompt_cache)
        # All of them may be taken again by their own thread: a signal handler runs in the middle of whatever it does.
        self._running = threading.RLock()
        self._replacing = threading.RLock()
        self._preparing = {name: threading.RLock() for name in bundle.manifest.inputs}
        self._settings = Settings(None if self._text is None else ())
        self._numbers = itertools.count()
        variant = bundle.manifest.variants[self._precision]
        if not variant.verified:
            _log.warning(
                "variant %s of %s differs from its source model by more than %g; check what it says",
                self._precision,
                bundle.manifest.name,
                variant.tolerance,
            )

    def set_text(self, prompts: Sequence[str]) -> None:
        """Set what to look for. The text stages run here, or not at all if the same list was set not long ago.

        Args:
            prompts: At least one; the scores of the results are in this order.

        Raises:
            TextInputError: The model takes no text, or `prompts` cannot be used.
            EngineError: A text stage failed, or the model is closed. The prompts from before stay in force.
        """
        program = self._opened()
        if self._text is None:
            raise TextInputError(
                f"{self._manifest.name} takes no text; its inputs are {', '.join(self._manifest.inputs)}"
            )
        labels = check_prompts(prompts)
        # One at a time, or the slower of two calls would undo the later one.
        with self._preparing[self._text.modality]:
            encoded = self._text.encode(labels)
            prepared = program.prepare(self._text.modality, encoded.tensors)
            with self._replacing:
                self._settings = self._settings.with_text(prepared, labels, encoded.warnings)

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
        program = self._opened()
        contract = self._manifest.inputs.get(modality)
        if not isinstance(contract, TensorInput):
            names = [name for name, spec in self._manifest.inputs.items() if isinstance(spec, TensorInput)]
            raise TensorInputError(f"update is for {', '.join(names) or 'no modality of this model'}; got {modality!r}")
        moment, checked = Moment.now(), check_tensors(modality, contract, tensors)
        with self._preparing[modality]:
            prepared = program.prepare(modality, checked)
            with self._replacing:
                self._settings = self._settings.with_tensors(prepared, moment)

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
        given = self._as_frame(frame)
        with self._running:
            return self._answer(given)

    def stream(self, source: SourceLike | Sequence[SourceLike], *, policy: str = "auto", **options: Any) -> Stream:
        """The results of a camera, video or picture, one by one; see `mmedge.stream.stream` for all arguments."""
        from mmedge.stream import stream

        self._opened()
        return stream(self, source, policy=policy, **options)

    def warmup(self, runs: int = 3) -> None:
        """Run black frames, so that the first real one is not the slow one.

        Raises what `__call__` raises, and InputError if `runs` is no whole number of at least 0.
        """
        if isinstance(runs, bool) or not isinstance(runs, int) or runs < 0:
            raise InputError(f"runs must be a whole number of at least 0, got {runs!r}")
        size = (1, 1) if self._image is None else self._image.contract.size
        with self._running:
            for _ in range(runs):
                self._answer(frame_now(np.zeros((*size, 3), np.uint8), "warmup", 0))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts in force; () before the first `set_text` and for a model without text."""
        return self._settings.labels or ()

    @property
    def prompt_version(self) -> int:
        """Counts the `set_text` calls; 0 before the first."""
        return self._settings.version

    def stats(self) -> dict[str, dict[str, Any]]:
        """What each stage did, by its name: the fields of `mmedge.stages.StageStats` as JSON values."""
        return {name: asdict(stage) for name, stage in self._opened().stats().items()}

    def info(self) -> dict[str, Any]:
        """What was loaded and on what it really runs, as JSON values."""
        settings = self._settings
        variant = self._manifest.variants[self._precision]
        shown = ("label", "engine", "provider", "fallbacks")
        return {
            "name": self._manifest.name,
            "version": self._manifest.version,
            "license": self._manifest.license,
            "task": self._task.to_json(),
            "inputs": {name: contract.to_json()["kind"] for name, contract in self._manifest.inputs.items()},
            "precision": self._precision,
            "chosen": self._chosen.why,
            "verified": variant.verified,
            "tolerance": variant.tolerance,
            "prompts": list(settings.labels or ()),
            "prompt_version": settings.version,
            "stages": [{"name": name, **{key: s[key] for key in shown}} for name, s in self.stats().items()],
        }

    def close(self) -> None:
        """Let go of the engines and the bundle, after the frame that is running. Safe to call twice.

        A signal handler may call it: a frame that it interrupts still gets its result.
        """
        with self._running:
            self._program = None
            for engine in self._engines:
                engine.close()
            self._bundle.close()
            with self._replacing:
                self._settings = replace(self._settings, inputs={}, moments={})

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, frame: Frame) -> Result:
        started = time.monotonic()
        program = self._opened()
        settings = self._settings
        inputs = dict(settings.inputs)
        moments = {name: moment for name, moment in settings.moments.items() if name in program.needed}
        to_frame = None
        if self._image is not None:
            pixels = self._image.tensors(frame.image)
            inputs[self._image.modality] = program.prepare(self._image.modality, pixels)
            to_frame = partial(self._image.to_frame, frame=frame.image)
        elif moments:
            oldest = min(moments.values(), key=lambda moment: moment.captured)
            frame = replace(frame, captured=oldest.captured, captured_at=oldest.captured_at)
        outputs = program.run(inputs)
        stamp = partial(settings.stamp, frame, moments, started)
        return interpret(self._task, outputs, Context(settings.labels, to_frame, stamp))

    def _as_frame(self, frame: FrameArray | Frame | None) -> Frame:
        if frame is None and self._image is not None:
            raise missing_input(self._image.modality, self._manifest.inputs[self._image.modality])
        if frame is not None and self._image is None:
            raise FrameInputError(f"{self._manifest.name} takes no frame; call it without one")
        if isinstance(frame, Frame):
            check_times(frame)
            return frame
        if frame is None:
            return frame_now(np.zeros((1, 1, 3), np.uint8), "tensors", next(self._numbers))
        return frame_now(frame, "array", next(self._numbers))

    def _opened(self) -> StagedProgram:
        program = self._program
        if program is None:
            raise EngineError(f"the model {self._manifest.name} was closed; load it again")
        return program
