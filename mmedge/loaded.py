"""One bundle, loaded: everything that changes together when a model gets another one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from mmedge.bundle import Bundle, Manifest, Task, TensorInput
from mmedge.engines import Array, Engine
from mmedge.errors import TensorInputError, TextInputError
from mmedge.inputs.image import ImagePreprocessor
from mmedge.inputs.tensor import check_tensors
from mmedge.inputs.text import TextPreprocessor
from mmedge.loading import choose_task, image_preprocessor, load_program, open_model, text_preprocessor
from mmedge.moment import Moment
from mmedge.program import Prepared, StagedProgram
from mmedge.results import Result
from mmedge.selection import Choice, EngineSpec, Selection
from mmedge.settings import Settings
from mmedge.sources.frame import Frame
from mmedge.tasks import Context, interpret
from mmedge.verification import Verification, verify_program

_log = logging.getLogger("mmedge")

Change = Callable[[Settings], Settings]
"""From the settings in force to those that replace them, at no cost."""


@dataclass(frozen=True)
class LoadOptions:
    """How a bundle is to be loaded; see `mmedge.load`."""

    engine: EngineSpec = "auto"
    precision: str | None = None
    threads: int | None = None
    threshold: float | None = None
    prompt_cache: int = 16


@dataclass(frozen=True, eq=False)
class Loaded:
    """What belongs to one bundle. Any thread may use it; `load_bundle` makes it.

    Attributes:
        bundle: Open until `retire`.
        options: How it was asked for.
        task: What the outputs mean.
        choice: What runs, and why.
        engines: Of all stages.
        text, image: What prepares prompts and frames; None for a model without them.
        program: Its stages.
        max_batch: Most frames that run at once.
        running: Held by whoever runs frames: one at a time.
        preparing: By modality, held by whoever changes what it gives: one at a time, or the slower of two calls would
            undo the later one.

    The locks may be taken again by their own thread: a signal handler runs in the middle of whatever it does.
    """

    bundle: Bundle
    options: LoadOptions
    task: Task
    choice: Choice
    engines: tuple[Engine, ...]
    text: TextPreprocessor | None
    image: ImagePreprocessor | None
    program: StagedProgram
    max_batch: int
    running: AbstractContextManager[object]
    preparing: Mapping[str, AbstractContextManager[object]]

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    def takes_text(self) -> TextPreprocessor:
        """What prepares prompts.

        Raises:
            TextInputError: The model takes none.
        """
        if self.text is None:
            raise TextInputError(
                f"{self.manifest.name} takes no text; its inputs are {', '.join(self.manifest.inputs)}"
            )
        return self.text

    def with_prompts(self, labels: tuple[str, ...]) -> Change:
        """Run the text stages for a list of prompts.

        Raises:
            TextInputError, EngineError: As in `Model.set_text`.
        """
        text = self.takes_text()
        encoded = text.encode(labels)
        prepared = self.program.prepare(text.modality, encoded.tensors)
        return lambda settings: settings.with_text(prepared, labels, encoded.warnings)

    def takes_tensors(self, modality: str) -> tuple[str, TensorInput]:
        """A modality that is neither frame nor text, and its contract.

        Raises:
            TensorInputError: There is none of this name.
        """
        inputs = self.manifest.inputs
        contract = inputs.get(modality)
        if not isinstance(contract, TensorInput):
            names = [name for name, spec in inputs.items() if isinstance(spec, TensorInput)]
            raise TensorInputError(f"update is for {', '.join(names) or 'no modality of this model'}; got {modality!r}")
        return modality, contract

    def checked(self, modality: str, tensors: Mapping[str, object]) -> dict[str, Array]:
        """Copies of its tensors. Raises TensorInputError as in `Model.update`."""
        return check_tensors(*self.takes_tensors(modality), tensors)

    def with_tensors(self, modality: str, tensors: Mapping[str, Array], moment: Moment) -> Change:
        """Run the stages of one modality for tensors that were `checked`. Raises EngineError."""
        prepared = self.program.prepare(modality, tensors)
        return lambda settings: settings.with_tensors(prepared, tensors, moment)

    def answer(self, frames: Sequence[Frame], settings: Settings) -> list[Result]:
        """The result of each frame, all with the same settings; see `Model.run_batch`."""
        results: list[Result] = []
        for start in range(0, len(frames), self.max_batch):
            results.extend(self._together(frames[start : start + self.max_batch], settings))
        return results

    def try_out(self, settings: Settings) -> None:
        """Run a black frame: finds what fails at a frame only, and takes the slow first run.

        Raises:
            InputError, EngineError: As in `Model.__call__`.
        """
        inputs = dict(settings.inputs)
        if self.image is not None:
            pixels = self.image.tensors(np.zeros((*self.image.contract.size, 3), np.uint8))
            inputs[self.image.modality] = self.program.prepare(self.image.modality, pixels)
        self.program.run(inputs)

    def verify(self) -> Verification:
        """Replay the goldens on the engines that are loaded. Raises BundleError, EngineError."""
        return verify_program(self.bundle, self.program.fresh(), self.choice.precision, self.image, self.text)

    def stats(self) -> dict[str, dict[str, Any]]:
        """See `Model.stats`."""
        return {name: asdict(stage) for name, stage in self.program.stats().items()}

    def info(self, settings: Settings) -> dict[str, Any]:
        """See `Model.info`."""
        manifest, variant = self.manifest, self.manifest.variants[self.choice.precision]
        shown = ("label", "engine", "provider", "fallbacks")
        return {
            "name": manifest.name,
            "version": manifest.version,
            "license": manifest.license,
            "task": self.task.to_json(),
            "inputs": {name: contract.to_json()["kind"] for name, contract in manifest.inputs.items()},
            "precision": self.choice.precision,
            "chosen": self.choice.why,
            "verified": variant.verified,
            "tolerance": variant.tolerance,
            "max_batch": self.max_batch,
            "prompts": list(settings.labels or ()),
            "prompt_version": settings.version,
            "stages": [{"name": name, **{key: s[key] for key in shown}} for name, s in self.stats().items()],
        }

    def retire(self) -> None:
        """Let go of the engines and the bundle, after the frame that is running. Safe to call twice."""
        with self.running:
            for engine in self.engines:
                engine.close()
            self.bundle.close()

    def _together(self, frames: Sequence[Frame], settings: Settings) -> Iterator[Result]:
        started = time.monotonic()
        moments = {name: moment for name, moment in settings.moments.items() if name in self.program.needed}
        for frame, prepared in zip(frames, self._images(frames), strict=True):
            inputs, to_frame = dict(settings.inputs), None
            if self.image is not None and prepared is not None:
                inputs[self.image.modality] = prepared
                to_frame = partial(self.image.to_frame, frame=frame.image)
            elif moments:
                oldest = min(moments.values(), key=lambda moment: moment.captured)
                frame = replace(frame, captured=oldest.captured, captured_at=oldest.captured_at)
            outputs = self.program.run(inputs)
            stamp = partial(settings.stamp, frame, moments, started)
            yield interpret(self.task, outputs, Context(settings.labels, to_frame, stamp))

    def _images(self, frames: Sequence[Frame]) -> Sequence[Prepared | None]:
        if self.image is None:
            return [None] * len(frames)
        pixels = [self.image.tensors(frame.image) for frame in frames]
        if len(pixels) == 1:
            return [self.program.prepare(self.image.modality, pixels[0])]
        return self.program.prepare_batch(pixels)


def load_bundle(path: str | PathLike[str] | None, options: LoadOptions) -> Loaded:
    """Load a bundle; whatever fails, nothing stays open.

    Raises:
        BundleError, EngineError, InputError, MissingDependencyError: As in `mmedge.load`.
    """
    with ExitStack() as held:
        bundle = open_model(path)
        held.callback(bundle.close)
        manifest = bundle.manifest
        task = choose_task(manifest, options.threshold)
        selection = Selection(bundle, options.engine, options.precision, options.threads)
        chosen, engines = selection.choice, selection.engines()
        for engine in engines.values():
            held.callback(engine.close)
        static_shapes = any(engine.static_shapes for engine in engines.values())
        text = text_preprocessor(bundle, static_shapes=static_shapes)
        image = image_preprocessor(manifest, options.threads)
        _log.info("%s runs as %s: %s", manifest.name, chosen.precision, chosen.why)
        program = load_program(bundle, engines, chosen.precision, cache_entries=options.prompt_cache)
        loaded = Loaded(
            bundle=bundle,
            options=options,
            task=task,
            choice=chosen,
            engines=tuple(engines.values()),
            text=text,
            image=image,
            program=program,
            # An engine that builds for each shape would build for seconds whenever another number of frames came.
            max_batch=1 if static_shapes else program.max_batch,
            running=threading.RLock(),
            preparing={name: threading.RLock() for name in manifest.inputs},
        )
        held.pop_all()
    variant = manifest.variants[chosen.precision]
    if not variant.verified:
        message = "variant %s of %s differs from its source model by more than %g; check what it says"
        _log.warning(message, chosen.precision, manifest.name, variant.tolerance)
    return loaded
