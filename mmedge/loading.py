"""From an open bundle to the parts of a model that runs."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files
from numbers import Real
from pathlib import Path
from typing import TypeVar

from mmedge.batching import MOST_FRAMES
from mmedge.bundle import Bundle, Ground, ImageInput, Manifest, Stage, Task, TextInput, open_bundle
from mmedge.engines import AxisRange, Engine, EngineStage, StageModel
from mmedge.errors import BundleError, BundleFormatError, InputError
from mmedge.inputs.image import MOST_THREADS, ImagePreprocessor
from mmedge.inputs.text import TextPreprocessor
from mmedge.program import StagedProgram

_log = logging.getLogger("mmedge")

K = TypeVar("K", ImageInput, TextInput)

MOST_PROMPTS = 128
"""Longest prompt list for which engines that build for a range are built."""


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


def load_program(
    bundle: Bundle, engine: Engine | Mapping[str, Engine], precision: str, *, cache_entries: int = 16
) -> StagedProgram:
    """Load every stage of a bundle in one precision.

    Args:
        engine: From `open_engine`; one for all stages, or one for each by the stage's name.
        precision: From `choose_precision`.
        cache_entries: See `StagedProgram`.

    Raises:
        EngineError: An engine refused a stage.
    """
    stages = load_stages(bundle, engine, precision)
    _log.info("%s %s: %s", bundle.manifest.name, precision, _placement(stages))
    return StagedProgram(bundle.manifest, stages, cache_entries=cache_entries)


def load_stages(bundle: Bundle, engine: Engine | Mapping[str, Engine], precision: str) -> dict[str, EngineStage]:
    """Every stage by its name, loaded; see `load_program`."""
    models = stage_models(bundle, precision)
    engines = engine if isinstance(engine, Mapping) else {model.stage.name: engine for model in models}
    return {model.stage.name: engines[model.stage.name].load(model) for model in models}


def stage_models(bundle: Bundle, precision: str) -> list[StageModel]:
    """Every stage in one precision, as engines get it, in the manifest's order.

    Args:
        precision: From `choose_precision`.
    """
    manifest = bundle.manifest
    weights = bundle.weights()
    folder = cache(bundle.stages_folder)
    ranges = axis_ranges(manifest)
    return [
        StageModel(
            stage,
            bundle.read(stage.files[precision]),
            weights,
            partial(_path, folder, stage.files[precision]),
            compute=manifest.variants[precision].compute,
            precision=precision,
            ranges=ranges,
            sha256=_sha256(manifest, (stage.files[precision], *(f"stages/{name}" for name in sorted(weights)))),
            plan=partial(_plan, bundle, stage, precision),
        )
        for stage in manifest.stages
    ]


def axis_ranges(manifest: Manifest) -> dict[str, AxisRange]:
    """The sizes that each named axis of the model's inputs may have, for engines that build for a range.

    Of prompts and their tokens these are what prompts are used for; of other tensors the sizes that were counted at
    export, and up to four times as much.
    """
    counted = {axis: size for stage in manifest.stages for axis, size in stage.cost.at.items()}
    ranges: dict[str, AxisRange] = {}
    for contract in manifest.inputs.values():
        if isinstance(contract, TextInput):
            longest = contract.max_length
            bounds = (AxisRange(1, 8, MOST_PROMPTS), AxisRange(1, min(16, longest), longest))
            named = zip(contract.ids.shape, bounds, strict=False)
            ranges.update({axis: bound for axis, bound in named if isinstance(axis, str)})
    for contract in manifest.inputs.values():
        frames = contract.tensor.shape[0] if isinstance(contract, ImageInput) else None
        if isinstance(frames, str):
            ranges[frames] = AxisRange(1, 1, MOST_FRAMES)
        for axis in (axis for tensor in contract.tensors for axis in tensor.shape):
            if isinstance(axis, str) and axis not in ranges:
                usual = max(1, counted.get(axis, 1))
                ranges[axis] = AxisRange(1, usual, 4 * usual)
    return ranges | _multiples(manifest, ranges)


def _multiples(manifest: Manifest, ranges: Mapping[str, AxisRange]) -> dict[str, AxisRange]:
    """Ranges of the axes between stages that are multiples of one, such as ``12*l`` for heads times tokens."""
    found: dict[str, AxisRange] = {}
    for axis in (a for stage in manifest.stages for t in (*stage.inputs, *stage.outputs) for a in t.shape):
        factor, _, name = str(axis).partition("*")
        if name in ranges and factor.isdigit():
            one, times = ranges[name], int(factor)
            found[str(axis)] = AxisRange(times * one.least, times * one.usual, times * one.most)
    return found


def _sha256(manifest: Manifest, names: Iterable[str]) -> str:
    """Of the files' hashes and names, which stand for their contents: they were compared when the bundle was opened."""
    lines = [f"{manifest.files[name].sha256} {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _plan(
    bundle: Bundle, stage: Stage, precision: str, engine: str, version: str, architecture: str
) -> memoryview | None:
    wanted = (stage.name, precision, engine, version, architecture)
    graph = bundle.manifest.files[stage.files[precision]].sha256
    for plan in bundle.manifest.plans:
        found = (plan.stage, plan.variant, plan.engine, plan.version, plan.architecture)
        if found == wanted and plan.onnx_sha256 == graph:
            return bundle.read(plan.file)
    return None


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


def text_preprocessor(bundle: Bundle, *, static_shapes: bool = False) -> TextPreprocessor | None:
    """What turns prompts into tensors; None for a model without text.

    Args:
        static_shapes: See `TextPreprocessor`.

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
    return TextPreprocessor(*found, bytes(bundle.read("tokenizer.json")), static_shapes=static_shapes)


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
