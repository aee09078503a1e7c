"""From an open bundle to the parts of a model that runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files
from numbers import Real
from pathlib import Path
from typing import TypeVar

from mmedge.bundle import Bundle, Ground, ImageInput, Manifest, Task, TextInput, open_bundle
from mmedge.engines import Engine, EngineStage, StageModel
from mmedge.errors import BundleError, BundleFormatError, InputError
from mmedge.inputs.image import MOST_THREADS, ImagePreprocessor
from mmedge.inputs.text import TextPreprocessor
from mmedge.program import StagedProgram

_log = logging.getLogger("mmedge")

K = TypeVar("K", ImageInput, TextInput)


def built_in_bundle() -> Path:
    """The bundle that comes with mmedge.

    Raises:
        BundleError: This installation was made without it.
    """
    path = Path(str(files("mmedge") / "data" / "tabletop.mmedge"))
    if not path.exists():
        raise BundleError(
            f"the built-in model is not part of this installation ({path} is missing); give the path of a bundle"
        )
    return path


def open_model(path: str | os.PathLike[str] | None) -> Bundle:
    """The bundle at `path`, open; None for the built-in one.

    Raises:
        BundleError: It is no path, or the bundle cannot be read or is damaged.
    """
    if path is None:
        return open_bundle(built_in_bundle())
    if not isinstance(path, (str, os.PathLike)):
        raise BundleError(f"the path of a bundle must be a string or a pathlib.Path, got {type(path).__name__}")
    return open_bundle(path)


def choose_precision(manifest: Manifest, precision: str | None = None) -> str:
    """The variant to run: `precision`, or the first verified one, or the first.

    Raises:
        BundleError: The bundle has no variant `precision`.
    """
    if precision is None:
        return next(
            (name for name, variant in manifest.variants.items() if variant.verified), next(iter(manifest.variants))
        )
    if not isinstance(precision, str) or precision not in manifest.variants:
        raise BundleError(f"{manifest.name} has no variant {precision!r}; it has {', '.join(manifest.variants)}")
    return precision


def load_program(bundle: Bundle, engine: Engine, precision: str, *, cache_entries: int = 16) -> StagedProgram:
    """Load every stage of a bundle in one precision.

    Args:
        engine: From `open_engine`.
        precision: From `choose_precision`.
        cache_entries: See `StagedProgram`.

    Raises:
        EngineError: The engine refused a stage.
    """
    weights = bundle.weights()
    folder = cache(bundle.stages_folder)
    stages: dict[str, EngineStage] = {}
    for stage in bundle.manifest.stages:
        name = stage.files[precision]
        path = partial(_path, folder, name)
        stages[stage.name] = engine.load(StageModel(stage, bundle.read(name), weights, path))
    _log.info("%s %s: %s", bundle.manifest.name, precision, _placement(stages))
    return StagedProgram(bundle.manifest, stages, cache_entries=cache_entries)


def _placement(stages: Mapping[str, EngineStage]) -> str:
    """What really runs the stages, in a few words."""
    places = {name: f"{stage.engine}, {stage.provider}" for name, stage in stages.items()}
    if len(set(places.values())) == 1:
        return f"stages {', '.join(places)} run on {next(iter(places.values()))}"
    return "; ".join(f"stage {name} runs on {place}" for name, place in places.items())


def _path(folder: Callable[[], Path], name: str) -> Path:
    return folder().parent / name


def choose_task(manifest: Manifest, threshold: float | None = None) -> Task:
    """The manifest's task, with another threshold where one is given.

    Raises:
        InputError: The task has no threshold, or it is not in 0..1.
    """
    task = manifest.task
    if threshold is None:
        return task
    if not isinstance(task, Ground):
        raise InputError(
            f"threshold is for models that find boxes, and the task of {manifest.name} is {task.to_json()['kind']!r}; "
            "leave it out"
        )
    if isinstance(threshold, bool) or not isinstance(threshold, Real) or not 0 <= threshold <= 1:
        raise InputError(f"threshold must be a number from 0 to 1, got {threshold!r}")
    return replace(task, threshold=float(threshold))


def text_preprocessor(bundle: Bundle) -> TextPreprocessor | None:
    """What turns prompts into tensors; None for a model without text.

    Raises:
        BundleFormatError: The tokenizer is missing, does not parse, or belongs to another model.
    """
    found = _only(bundle.manifest, TextInput)
    if found is None:
        return None
    if "tokenizer.json" not in bundle.manifest.files:
        raise BundleFormatError(
            f"{bundle.path}: the model takes text, and the bundle holds no tokenizer.json; export it again"
        )
    return TextPreprocessor(*found, bytes(bundle.read("tokenizer.json")))


def image_preprocessor(manifest: Manifest, threads: int | None = None) -> ImagePreprocessor | None:
    """What turns frames into tensors; None for a model without frames.

    Args:
        threads: CPU threads of a frame, 1 for None; beyond `MOST_THREADS` more do not help.

    Raises:
        BundleFormatError: The contract contradicts itself.
    """
    found = _only(manifest, ImageInput)
    return None if found is None else ImagePreprocessor(*found, min(threads or 1, MOST_THREADS))


def _only(manifest: Manifest, kind: type[K]) -> tuple[str, K] | None:
    """Name and contract of the one modality of a kind; None where there is none."""
    found = [(name, contract) for name, contract in manifest.inputs.items() if isinstance(contract, kind)]
    if len(found) > 1:
        names = ", ".join(name for name, _ in found)
        raise BundleFormatError(f"{manifest.name} has {len(found)} modalities of one kind ({names}); one is supported")
    return found[0] if found else None
