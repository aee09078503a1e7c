"""Engines: what runs one stage of a bundle. Each is a module, imported when somebody asks for it by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from mmedge.bundle import Stage
from mmedge.errors import EngineError

Array = npt.NDArray[Any]

ENGINES = {
    "onnxruntime": "mmedge.engines.onnxruntime",
    "openvino": "mmedge.engines.openvino",
    "tensorrt": "mmedge.engines.tensorrt",
    "tensorrt_rtx": "mmedge.engines.tensorrt.rtx",
}
"""Engine name -> module; each module has ``create(device, threads) -> Engine``."""


@dataclass(frozen=True)
class AxisRange:
    """Sizes of a named axis."""

    least: int
    usual: int
    most: int


def _no_plan(engine: str, version: str, architecture: str) -> memoryview | None:
    return None


@dataclass(frozen=True)
class StageModel:
    """One stage in one precision, as an engine gets it.

    Attributes:
        stage: Its contract: names, dtypes and shapes of what goes in and comes out.
        onnx: The graph.
        weights: External weight files, by the name under which the graph knows them.
        path: Gives the graph as a file that lies beside its weight files; unpacks them if it must.
        compute: ``fp32``, or ``bf16`` or ``fp16`` where the engine may round the graph's own float32 to it.
        precision: Name of the variant.
        ranges: Smallest, usual and largest size of each named axis, for engines that build for a range.
        sha256: Of the graph and its weights: what was built or measured for one stage never serves another.
        plan: The bytes of an engine built beforehand, by (engine, version, architecture); None if there is none.
    """

    stage: Stage
    onnx: memoryview
    weights: Mapping[str, memoryview]
    path: Callable[[], Path]
    compute: str = "fp32"
    precision: str = "fp32"
    ranges: Mapping[str, AxisRange] = field(default_factory=dict)
    sha256: str = ""
    plan: Callable[[str, str, str], memoryview | None] = _no_plan


class OnDevice(Protocol):
    """What a stage left in the memory of its device; nobody changes it any more."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def numpy(self) -> Array:
        """A copy on the host."""
        ...


Value = Array | OnDevice


class EngineStage(Protocol):
    """A loaded stage. Any thread may run it.

    A stage on a device may also have ``run_on_device``, which takes and gives `OnDevice` values beside arrays: stages
    of one engine are chained without copies over the host.

    Attributes:
        engine: Name and version of the engine, such as ``onnxruntime 1.32.0``.
        provider: What it really runs on, read back from the engine, such as ``cpu`` or ``cuda``.
        fallbacks: Operator types that run on the CPU although `provider` is another; None where the engine cannot tell.
    """

    @property
    def engine(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def fallbacks(self) -> tuple[str, ...] | None: ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name, as new arrays. Raises EngineError."""
        ...


class Engine(Protocol):
    """Loads stages.

    Attributes:
        identity: Name, version and device, such as ``openvino 2026.4.1 cpu``: what was measured for one never counts
            for another.
        static_shapes: It builds a program for each shape that comes, so the fewer there are the better.
    """

    @property
    def identity(self) -> str: ...

    @property
    def static_shapes(self) -> bool: ...

    def load(self, model: StageModel) -> EngineStage:
        """Raises EngineError when the engine refuses the stage."""
        ...

    def close(self) -> None:
        """Stop what it does in the background, such as building; safe to call twice. Loaded stages go on."""
        ...


def check_names(model: StageModel, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Compare the names that a stage promises with those that an engine found in its graph.

    Raises:
        EngineError: They differ.
    """
    for kind, promised, found in (("inputs", model.stage.inputs, inputs), ("outputs", model.stage.outputs, outputs)):
        names = {tensor.name for tensor in promised}
        if names != set(found):
            raise EngineError(
                f"stage {model.stage.name!r}: the manifest promises {kind} {sorted(names)}, the graph has "
                f"{sorted(found)}; export the bundle again"
            )


def one_line(error: Exception) -> str:
    """An engine's message, fit for the end of a sentence."""
    return " ".join(str(error).split())[:400]


def open_engine(spec: str = "auto", *, threads: int | None = None) -> Engine:
    """The engine that `spec` names.

    Args:
        spec: ``NAME`` or ``NAME:DEVICE``, such as ``onnxruntime:cpu``. Without a device the engine takes the best that
            works and says in the log which it is; a device that is named is used, or it is an error. ``auto`` is
            ONNX Runtime here: what is fastest is a question about a bundle, see `mmedge.selection`.
        threads: CPU threads of one stage; None leaves it to the engine.

    Raises:
        EngineError: `spec` names no engine, its library is not installed, or it does not have the device.
    """
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise EngineError(f"threads must be a whole number of at least 1, or None, got {threads!r}")
    if not isinstance(spec, str):
        raise EngineError(f"engine must be a string such as 'auto' or 'onnxruntime:cpu', got {spec!r:.60}")
    name, _, device = ("onnxruntime" if spec == "auto" else spec).partition(":")
    if name not in ENGINES:
        raise EngineError(
            f"engine must be 'auto' or one of {', '.join(ENGINES)} (with :DEVICE if need be), got {spec!r}"
        )
    try:
        module = importlib.import_module(ENGINES[name])
    except ImportError as error:
        raise EngineError(f"engine {name!r} needs a library that cannot be imported: {error}") from error
    engine: Engine = module.create(device or None, threads)
    return engine
