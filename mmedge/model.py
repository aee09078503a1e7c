"""The model on the device: prompts in, frames in, results out."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmedge.bundle import Bundle, TensorInput, open_bundle
from mmedge.engines import open_engine
from mmedge.errors import EngineError, FrameInputError, TensorInputError, TextInputError
from mmedge.inputs import missing_input
from mmedge.inputs.image import FrameArray
from mmedge.inputs.tensor import check_tensors
from mmedge.loading import (
    built_in_bundle,
    choose_precision,
    choose_task,
    image_preprocessor,
    load_program,
    text_preprocessor,
)
from mmedge.program import Prepared, StagedProgram
from mmedge.results import Result, Stamp
from mmedge.sources.frame import Frame
from mmedge.tasks import Context, interpret

if TYPE_CHECKING:
    from mmedge.sources.feed import SourceLike
    from mmedge.stream import Stream

_log = logging.getLogger("mmedge")


@dataclass(frozen=True)
class _Prompts:
    """What the last `set_text` left behind, replaced as a whole. `labels` is None for a model without text."""

    labels: tuple[str, ...] | None
    warnings: tuple[str, ...]
    version: int


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    engine: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    threshold: float | None = None,
    prompt_cache: int = 16,
) -> Model:
    """Load a bundle, ready to run. Close the model, or use it in a ``with`` statement.

    Args:
        path: ``NAME.mmedge``, a file or a folder; None for the built-in tabletop model.
        engine: ``auto``, ``NAME`` or ``NAME:DEVICE``, see `mmedge.engines.open_engine`. The log says what really runs.
        precision: A variant of the bundle; None for the first one that was verified against the source model.
        threads: CPU threads of a stage; None leaves it to the engine.
        threshold: For models that find boxes: the lowest score of a detection; None for the bundle's own.
        prompt_cache: Number of prompt lists whose stages need not run again when they come back.

    Raises:
        BundleError: The bundle cannot be read, is damaged, or has no such variant.
        EngineError: The engine is missing or refused a stage.
        InputError: `threshold` or `prompt_cache` cannot be used.
        MissingDependencyError: A library that the model needs is not installed.
    """
    bundle = open_bundle(built_in_bundle() if path is None else path)
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
        engine: str,
        precision: str | None,
        threads: int | None,
        threshold: float | None,
        prompt_cache: int,
    ) -> None:
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._precision = choose_precision(bundle.manifest, precision)
        self._task = choose_task(bundle.manifest, threshold)
        self._text = text_preprocessor(bundle)
        self._image = image_preprocessor(bundle.manifest, threads)
        loaded = open_engine(engine, threads=threads)
        self._program: StagedProgram | None = load_program(bundle, loaded, self._precision, cache_entries=prompt_cache)
        self._running = threading.Lock()
        self._setting = threading.Lock()
        self._state = threading.Lock()
        self._inputs: dict[str, Prepared] = {}
        self._prompts = _Prompts(None if self._text is None else (), (), 0)
        self._frames = 0
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
        # One at a time, or the slower of two calls would undo the later one.
        with self._setting:
            encoded = self._text.encode(prompts)
            prepared = program.prepare(self._text.modality, encoded.tensors)
            with self._state:
                self._inputs[self._text.modality] = prepared
                self._prompts = _Prompts(tuple(prompts), encoded.warnings, self._prompts.version + 1)

    def update(self, modality: str, /, **tensors: npt.NDArray[Any]) -> None:
        """Set the tensors of a modality that is neither frame nor text, such as a window of sensor values.

        Args:
            modality: Its name in the manifest.
            tensors: Every tensor of it by name; dtypes and shapes are those of the manifest. They are copied.

        Raises:
            TensorInputError: A name, dtype or shape is another, or a value is not finite.
            EngineError: A stage failed, or the model is closed. The tensors from before stay in force.
        """
        program = self._opened()
        contract = self._manifest.inputs.get(modality)
        if not isinstance(contract, TensorInput):
            names = [name for name, spec in self._manifest.inputs.items() if isinstance(spec, TensorInput)]
            raise TensorInputError(f"update is for {', '.join(names) or 'no modality of this model'}; got {modality!r}")
        with self._setting:
            prepared = program.prepare(modality, check_tensors(modality, contract, tensors))
            with self._state:
                self._inputs[modality] = prepared

    def __call__(self, frame: FrameArray | Frame | None = None) -> Result:
        """Run the model on a frame, with the prompts and tensors that were set last.

        Args:
            frame: uint8 [H, W, 3], BGR, as OpenCV gives it, or a `Frame` of a source. None for a model without frames.

        Raises:
            FrameInputError, TextInputError, TensorInputError: An input is missing or cannot be used.
            EngineError: A stage failed, or the model is closed.
            TaskError: The outputs are not finite, or not what the manifest promises.
        """
        with self._running:
            return self._answer(self._as_frame(frame))

    def stream(self, source: SourceLike | Sequence[SourceLike], *, policy: str = "auto", **options: Any) -> Stream:
        """The results of a camera, video or picture, one by one; see `mmedge.stream.stream` for all arguments."""
        from mmedge.stream import stream

        self._opened()
        return stream(self, source, policy=policy, **options)

    def warmup(self, runs: int = 3) -> None:
        """Run black frames, so that the first real one is not the slow one. Raises what `__call__` raises."""
        size = (1, 1) if self._image is None else self._image.contract.size
        with self._running:
            for _ in range(runs):
                self._answer(_frame_now(np.zeros((*size, 3), np.uint8), "warmup", 0))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts in force; () before the first `set_text` and for a model without text."""
        return self._prompts.labels or ()

    @property
    def prompt_version(self) -> int:
        """Counts the `set_text` calls; 0 before the first."""
        return self._prompts.version

    def stats(self) -> dict[str, dict[str, Any]]:
        """What each stage did, by its name: the fields of `mmedge.program.StageStats` as JSON values."""
        return {name: asdict(stage) for name, stage in self._opened().stats().items()}

    def info(self) -> dict[str, Any]:
        """What was loaded and on what it really runs, as JSON values."""
        variant = self._manifest.variants[self._precision]
        shown = ("label", "engine", "provider", "fallbacks")
        return {
            "name": self._manifest.name,
            "version": self._manifest.version,
            "license": self._manifest.license,
            "task": self._task.to_json(),
            "inputs": {name: contract.to_json()["kind"] for name, contract in self._manifest.inputs.items()},
            "precision": self._precision,
            "verified": variant.verified,
            "tolerance": variant.tolerance,
            "prompts": list(self.prompts),
            "prompt_version": self.prompt_version,
            "stages": [{"name": name, **{key: s[key] for key in shown}} for name, s in self.stats().items()],
        }

    def close(self) -> None:
        """Let go of the engine and the bundle, after the frame that is running. Safe to call twice."""
        with self._running:
            self._program = None
            self._bundle.close()
            with self._state:
                self._inputs.clear()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, frame: Frame) -> Result:
        started = time.perf_counter()
        program = self._opened()
        with self._state:
            inputs, prompts = dict(self._inputs), self._prompts
        to_frame = None
        if self._image is not None:
            pixels = self._image.tensors(frame.image)
            inputs[self._image.modality] = program.prepare(self._image.modality, pixels)
            to_frame = partial(self._image.to_frame, frame=frame.image)
        outputs = program.run(inputs)
        return interpret(
            self._task, outputs, Context(prompts.labels, to_frame, partial(_stamp, frame, prompts, started))
        )

    def _as_frame(self, frame: FrameArray | Frame | None) -> Frame:
        if frame is None and self._image is not None:
            raise missing_input(self._image.modality, self._manifest.inputs[self._image.modality])
        if frame is not None and self._image is None:
            raise FrameInputError(f"{self._manifest.name} takes no frame; call it without one")
        if isinstance(frame, Frame):
            return frame
        index, self._frames = self._frames, self._frames + 1
        if frame is None:
            return _frame_now(np.zeros((1, 1, 3), np.uint8), "tensors", index)
        return _frame_now(frame, "array", index)

    def _opened(self) -> StagedProgram:
        program = self._program
        if program is None:
            raise EngineError(f"the model {self._manifest.name} was closed; load it again")
        return program


def _stamp(frame: Frame, prompts: _Prompts, started: float) -> Stamp:
    return Stamp(
        source=frame.source,
        frame=frame.index,
        captured_at=frame.captured_at,
        age_ms=(time.monotonic() - frame.captured) * 1e3,
        dropped=frame.dropped,
        state=frame.state,
        media_time_s=frame.media_time_s,
        prompt_version=prompts.version,
        latency_ms=(time.perf_counter() - started) * 1e3,
        warnings=prompts.warnings,
    )


def _frame_now(picture: FrameArray, source: str, index: int) -> Frame:
    return Frame(picture, source, index, time.monotonic(), datetime.now(timezone.utc))
