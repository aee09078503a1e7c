"""Building the engines of a bundle beforehand, on a machine without the GPU, and putting them into it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mmedge.bundle import Bundle, Manifest, Plan, open_bundle, publish, seal, staging
from mmedge.bundle.writer import file_entries
from mmedge.engines import StageModel
from mmedge.engines.tensorrt.building import BuildCancelledError, Job, build
from mmedge.engines.tensorrt.library import Library, open_library
from mmedge.engines.tensorrt.parsing import refusals
from mmedge.engines.tensorrt.progress import Report, shown
from mmedge.errors import BundleError, EngineError, InputError
from mmedge.loading import stage_models
from mmedge.targets import Target
from mmedge.targets import target as find_target

_Show = Callable[[str], AbstractContextManager[Report]]


@dataclass(frozen=True)
class Row:
    """One engine of the bundle.

    Attributes:
        stage, variant: What was built.
        architectures: On which it runs.
        bytes, seconds: Its size, and how long the build took; no seconds where another variant has the same graph.
        lacking: Architecture -> why the library cannot build this stage for it.
    """

    stage: str
    variant: str
    architectures: tuple[str, ...]
    bytes: int
    seconds: float
    lacking: dict[str, str]


@dataclass(frozen=True)
class Prebuilt:
    """A bundle with engines. path: where; engine, version: that built them."""

    path: Path
    target: str
    engine: str
    version: str
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, object]:
        rows = [{**asdict(row), "seconds": round(row.seconds, 2)} for row in self.rows]
        return {**asdict(self), "path": str(self.path), "rows": rows}


def prebuild(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    target: str = "rtx",
    architectures: Sequence[str] = (),
    precisions: Sequence[str] = (),
    show: _Show = shown,
) -> Prebuilt:
    """Build an engine for every stage of a bundle, in every form, and put them into it. Needs no GPU.

    An engine serves several architectures and holds the weights once. Of the target's own architectures those for which
    the library cannot build a stage are left out and listed; architectures that are named must work.

    Args:
        out: The new bundle; None replaces `bundle` itself, at once and only when everything was built.
        target: Of `mmedge.targets.TARGETS`, one whose library builds for GPUs that are not there.
        architectures: Such as ``sm_89``; () for the target's.
        precisions: Variants; () for those whose graphs are fp32 or fp16, and those made for this engine.
        show: Makes what is told how far a build is.

    Raises:
        InputError: There is no such target.
        BundleError: The bundle cannot be read or written, or has no such variant.
        EngineError: The library is missing, or refused a stage: then all refused nodes are named, before anything is
            built.
    """
    wanted = find_target(target)
    if wanted.engine != "tensorrt_rtx":
        raise InputError(
            f"target must be one whose GPU need not be there, such as rtx, got {target!r}: {wanted.engine} prepares "
            "stages on the device, when it first loads them"
        )
    library = open_library(wanted.engine)
    named = tuple(dict.fromkeys(architectures)) or tuple(f"sm_{number}" for number in wanted.architectures)
    unknown = [name for name in named if name not in library.architectures()]
    if unknown:
        raise EngineError(
            f"{library.name} {library.version} does not build for {', '.join(unknown)}; it builds for "
            f"{', '.join(library.architectures())}"
        )
    place = Path(bundle if out is None else out)
    with open_bundle(bundle) as opened:
        variants = _variants(opened.manifest, wanted, precisions)
        models = [model for variant in variants for model in stage_models(opened, variant)]
        _preflight(library, models)
        with staging(place) as folder:
            _copy(opened, folder)
            builder = _Builder(library, folder, named, bool(architectures), show)
            for model in models:
                builder.add(model, opened.manifest)
            plans = _merged(opened.manifest.plans, builder.plans)
            _drop_unused(folder, opened.manifest.plans, plans)
            seal(folder, replace(opened.manifest, plans=plans, files=file_entries(folder)))
            publish(folder, place, form="folder" if opened.path.is_dir() else "zip")
    return Prebuilt(place, target, library.name, library.version, tuple(builder.rows))


class _Builder:
    """Builds stage after stage into a folder, with one plan in memory. strict: no architecture may be lacking."""

    def __init__(
        self, library: Library, folder: Path, architectures: tuple[str, ...], strict: bool, show: _Show
    ) -> None:
        self.plans: list[Plan] = []
        self.rows: list[Row] = []
        self._library = library
        self._folder = folder
        self._architectures = architectures
        self._strict = strict
        self._show = show
        self._known: dict[str, tuple[str, Row]] = {}

    def add(self, model: StageModel, manifest: Manifest) -> None:
        graph = model.stage.files[model.precision]
        known = self._known.get(graph)
        if known is None:
            known = self._known[graph] = self._build(model, graph)
            self.rows.append(known[1])
        else:
            self.rows.append(replace(known[1], variant=model.precision, seconds=0.0))
        name, row = known
        self.plans += [
            Plan(
                stage=model.stage.name,
                variant=model.precision,
                engine=self._library.name,
                version=self._library.version,
                architecture=architecture,
                onnx_sha256=manifest.files[graph].sha256,
                file=name,
            )
            for architecture in row.architectures
        ]

    def _build(self, model: StageModel, graph: str) -> tuple[str, Row]:
        lacking: dict[str, str] = {}
        left = list(self._architectures)
        began = time.perf_counter()
        while True:
            job = Job(self._library, model.stage, model.path(), model.ranges, tuple(left))
            try:
                with self._show(f"{model.stage.name} {model.precision} for {', '.join(left)}") as report:
                    built = build(job, report, threading.Event())
                break
            except BuildCancelledError:
                raise
            except EngineError as error:
                # The reason does not say for which architecture; older ones can do less.
                if self._strict or len(left) == 1:
                    raise
                lacking[left.pop(0)] = str(error)
        # Plans for other architectures may be in the bundle already, and stay.
        suffix = "-".join(architecture.removeprefix("sm_") for architecture in left)
        stem = graph.removeprefix("stages/").removesuffix(".onnx")
        name = f"plans/{self._library.name}-{self._library.version}/{stem}.sm_{suffix}.plan"
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(built.plan)
        seconds = time.perf_counter() - began
        return name, Row(model.stage.name, model.precision, tuple(left), built.plan.nbytes, seconds, lacking)


def _variants(manifest: Manifest, target: Target, precisions: Sequence[str]) -> list[str]:
    known = {name: variant for name, variant in manifest.variants.items() if variant.compute == "fp32"}
    for name in precisions:
        if name not in known:
            raise BundleError(
                f"{manifest.name} has no variant {name!r:.60} that says its precision in its graph; it has "
                f"{', '.join(known) or 'none'}"
            )
    chosen = list(dict.fromkeys(precisions)) or [
        name
        for name, variant in known.items()
        if target.engine in variant.engines or (name in ("fp32", "fp16") and not variant.engines)
    ]
    if not chosen:
        raise BundleError(
            f"{manifest.name} has no variant for {target.engine}; it has {', '.join(manifest.variants)}: name one"
        )
    return chosen


def _preflight(library: Library, models: Sequence[StageModel]) -> None:
    lines = []
    for path in dict.fromkeys(model.path() for model in models):
        lines += [f"  {path.name}: {refusal}" for refusal in refusals(path, library.name)]
    if lines:
        text = "\n".join(lines)
        raise EngineError(
            f"{library.name} {library.version} refuses {len(lines)} node(s), and nothing was built:\n{text}\n"
            "Choose another variant, or export the model again for this target."
        )


def _copy(bundle: Bundle, folder: Path) -> None:
    for name in bundle.manifest.files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if bundle.path.is_dir():
            shutil.copyfile(bundle.path / name, target)
        else:
            target.write_bytes(bundle.read(name))


def _merged(old: Sequence[Plan], new: Sequence[Plan]) -> tuple[Plan, ...]:
    """Plans of other engines, versions and architectures stay."""
    plans = {(p.stage, p.variant, p.engine, p.version, p.architecture): p for p in (*old, *new)}
    return tuple(plans.values())


def _drop_unused(folder: Path, old: Sequence[Plan], plans: Sequence[Plan]) -> None:
    for name in {plan.file for plan in old} - {plan.file for plan in plans}:
        with suppress(FileNotFoundError):
            (folder / name).unlink()
