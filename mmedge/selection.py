"""Which variant of a bundle runs, and which engine runs each stage: what was asked for, or what is fastest here.

What is left open is measured once for each machine and bundle, on the first golden's inputs, in a few seconds. The
winner must give the bundle's goldens within the limits of its variant before it is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mmedge import __version__
from mmedge.bundle import Bundle, Golden, Manifest, Variant
from mmedge.cache import DiskCache, cache_key
from mmedge.comparison import compare
from mmedge.engines import Engine, open_engine
from mmedge.errors import EngineError
from mmedge.loading import choose_precision, load_stages
from mmedge.program import StagedProgram
from mmedge.timing import Timing, measure

_log = logging.getLogger("mmedge")

AUTO = ("onnxruntime", "openvino")
"""The engines that ``auto`` considers; without measurements the first one is used. TensorRT builds for minutes, and has
to be asked for by name."""

_CACHE = "selection"

_NOISE = 0.1
"""Times of a short measurement that differ by less say nothing."""

EngineSpec = str | Mapping[str, str]
"""``auto``, ``NAME`` or ``NAME:DEVICE`` for all stages, or one of these for each stage by its name."""


@dataclass(frozen=True)
class Choice:
    """What runs.

    Attributes:
        precision: The variant.
        engines: The engine of each stage, as `open_engine` takes it, by the stage's name.
        why: In words, with the times that decided.
    """

    precision: str
    engines: Mapping[str, str]
    why: str


class Selection:
    """The engines that may run a bundle here, and the choice between them.

    Args:
        bundle: An open bundle.
        engine: See `EngineSpec`; stages that a mapping leaves out are ``auto``.
        precision: A variant; None for the fastest of those that were verified.
        threads: See `open_engine`.

    Attributes:
        choice: What runs.

    Raises:
        BundleError: There is no such variant.
        EngineError: An engine that was asked for is missing, or is none for this variant; or a stage is unknown.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: EngineSpec = "auto",
        precision: str | None = None,
        threads: int | None = None,
    ) -> None:
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._threads = threads
        self._opened: dict[str, Engine] = {}
        default = choose_precision(bundle.manifest, precision)
        asked = _asked(bundle.manifest, engine)
        try:
            offers = {name: self._offer(spec) for name, spec in asked.items()}
            self._candidates = self._accepting(offers, precision, default)
            self.choice = self._choose(default)
        except BaseException:
            for opened in self._opened.values():
                opened.close()
            raise

    def engines(self) -> dict[str, Engine]:
        """The engine of each stage by the stage's name."""
        return {stage: self._opened[spec] for stage, spec in self.choice.engines.items()}

    def _offer(self, spec: str) -> tuple[str, ...]:
        """The engines that `spec` stands for: of ``auto`` those that are here."""
        if spec != "auto":
            self._open(spec)
            return (spec,)
        found, refused = [], []
        for name in AUTO:
            try:
                self._open(name)
            except EngineError as error:
                _log.debug("auto leaves %s out: %s", name, error)
                refused.append(str(error))
            else:
                found.append(name)
        if not found:
            raise EngineError(f"none of the engines {', '.join(AUTO)} can be used here: {'; '.join(refused)}")
        return tuple(found)

    def _open(self, spec: str) -> None:
        if spec not in self._opened:
            self._opened[spec] = open_engine(spec, threads=self._threads)

    def _accepting(
        self, offers: Mapping[str, tuple[str, ...]], precision: str | None, default: str
    ) -> dict[str, dict[str, tuple[str, ...]]]:
        """Variant -> stage -> the engines that may run it; variants that cannot run are left out."""
        variants = self._manifest.variants
        open_names = [name for name, variant in variants.items() if variant.verified] or [default]
        found = {}
        for name in open_names if precision is None else [precision]:
            fitting = {s: tuple(e for e in specs if accepts(variants[name], e)) for s, specs in offers.items()}
            if all(fitting.values()):
                found[name] = fitting
        if not found:
            wanted = ", ".join(dict.fromkeys(spec for specs in offers.values() for spec in specs))
            made = "; ".join(f"{name} for {_made_for(variant)}" for name, variant in variants.items())
            raise EngineError(
                f"{self._manifest.name}: no variant that may be used is made for {wanted}; variants are {made}"
            )
        return found

    def _choose(self, default: str) -> Choice:
        first = self._first(default)
        if len(self._candidates) == 1 and all(len(s) == 1 for s in self._candidates[first.precision].values()):
            return first
        if "goldens.npz" not in self._manifest.files:
            return replace(
                first, why="the bundle carries no goldens to measure with, so it is the first that can be used"
            )
        cache, key = DiskCache(_CACHE), self._key()
        known = self._parse(cache.get(key))
        if known is not None:
            return known
        # Two processes that measure at once would measure each other.
        with cache.locked(key):
            known = self._parse(cache.get(key))
            if known is not None:
                return known
            _log.info("%s: measuring once which precision and engines are fastest here", self._manifest.name)
            goldens = self._bundle.goldens()
            found = self._fastest(goldens) if goldens else None
            if found is None:
                return replace(first, why="nothing else gives the bundle's goldens here, see the log")
            cache.put(key, json.dumps(asdict(found)).encode())
            return found

    def _first(self, default: str) -> Choice:
        precision = default if default in self._candidates else next(iter(self._candidates))
        engines = {stage: specs[0] for stage, specs in self._candidates[precision].items()}
        return Choice(precision, engines, "there is nothing to choose between")

    def _fastest(self, goldens: Sequence[Golden]) -> Choice | None:
        rows = self._preferred(measure(self._bundle, self._candidates, self._opened, goldens[0]))
        for place, row in enumerate(rows):
            reasons = self._disagreement(row, goldens)
            if not reasons:
                return Choice(row.precision, row.engines, _why(row, rows[place + 1 :], len(rows)))
            _log.warning(
                "%s: %s is left out, it does not give the bundle's goldens here: %s",
                self._manifest.name,
                row,
                "; ".join(reasons),
            )
        return None

    def _preferred(self, rows: Sequence[Timing]) -> list[Timing]:
        """The fastest first; of those that are as fast within the noise, the most exact, as the manifest lists them."""
        exact = list(self._manifest.variants)
        near = [row for row in rows if row.ms <= rows[0].ms * (1.0 + _NOISE)]
        return sorted(near, key=lambda row: (exact.index(row.precision), row.ms)) + list(rows[len(near) :])

    def _disagreement(self, row: Timing, goldens: Sequence[Golden]) -> tuple[str, ...]:
        variant = self._manifest.variants[row.precision]
        engines = {stage: self._opened[spec] for stage, spec in row.engines.items()}
        try:
            program = StagedProgram(self._manifest, load_stages(self._bundle, engines, row.precision))
            return compare(program, goldens, variant).reasons
        except EngineError as error:
            return (str(error),)

    def _key(self) -> str:
        return cache_key(
            manifest=hashlib.sha256(self._manifest.dumps().encode()).hexdigest(),
            mmedge=__version__,
            engines=json.dumps({spec: engine.identity for spec, engine in self._opened.items()}, sort_keys=True),
            candidates=json.dumps(self._candidates, sort_keys=True),
            machine=_machine(),
            threads=str(self._threads),
        )

    def _parse(self, entry: bytes | None) -> Choice | None:
        """What was measured before; None where there is nothing, or nothing that can be used."""
        if entry is None:
            return None
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            choice = Choice(**json.loads(entry))
            stages = self._candidates[choice.precision]
            if (
                isinstance(choice.why, str)
                and set(choice.engines) == set(stages)
                and all(e in stages[s] for s, e in choice.engines.items())
            ):
                return choice
        return None


def accepts(variant: Variant, spec: str) -> bool:
    """Whether a variant is made for an engine. What a device lacks only the engine itself can tell."""
    name = spec.partition(":")[0]
    if variant.compute != "fp32" and name == "onnxruntime":
        return False
    return not variant.engines or name in variant.engines


def _made_for(variant: Variant) -> str:
    engines = " or ".join(variant.engines) or "any engine"
    return engines if variant.compute == "fp32" else f"{engines} that rounds to {variant.compute}"


def _asked(manifest: Manifest, engine: EngineSpec) -> dict[str, str]:
    names = [stage.name for stage in manifest.stages]
    if isinstance(engine, str):
        return dict.fromkeys(names, engine)
    if not isinstance(engine, Mapping):
        raise EngineError(
            f"engine must be a string such as 'auto', or a mapping from stage to string, got {engine!r:.60}"
        )
    unknown = [name for name in engine if name not in names]
    if unknown:
        raise EngineError(f"{manifest.name} has no stage {', '.join(map(repr, unknown))}; it has {', '.join(names)}")
    return {name: engine.get(name, "auto") for name in names}


def _why(row: Timing, slower: Sequence[Timing], count: int) -> str:
    if not slower:
        return f"{row.ms:.2f} ms a frame, the only one of {count} that could be used"
    other = slower[0]
    if other.ms < row.ms:
        return f"{row.ms:.2f} ms a frame, and more exact than {other} with {other.ms:.2f} ms, which is as fast in all"
    return f"{row.ms:.2f} ms a frame, next of {count} is {other} with {other.ms:.2f} ms"


def _machine() -> str:
    """What the speed of a program depends on, apart from the program: processor, its instructions, cores."""
    lines: Iterable[str] = ()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part", "Hardware")
    described = sorted({line for line in lines if line.startswith(wanted)}) or [platform.processor()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "\n".join((platform.machine(), *described, f"{cores} cores"))
