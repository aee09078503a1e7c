"""One kernel for one architecture as data, and as the JSON that goes to the process that compiles it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mmedge_kernels.aot.targets import Target, Version, drivers_by_sm
from mmedge_kernels.errors import CompileError
from mmedge_kernels.pack.manifest import ELEMENT_BYTES, KERNEL_NAME
from mmedge_kernels.specification import GridAxis, KernelSpec, Parameter

_BFLOAT16_SINCE = 80
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Job:
    """Compile `spec` for `sm`, so that a driver of the CUDA version `cuda` loads the result."""

    spec: KernelSpec
    sm: int
    cuda: Version

    def __str__(self) -> str:
        return f"{self.spec.name} for sm_{self.sm}"


def make_jobs(specs: Iterable[KernelSpec], targets: Iterable[Target]) -> list[Job]:
    """Every specification for every architecture of the targets that it is for.

    bfloat16 needs sm_80; where a specification uses it, older architectures are left out. What is asked for twice is
    compiled once.
    Raises CompileError for a specification that breaks a rule, for two that differ under one name and architecture, and
    when nothing is left to compile.
    """
    drivers = drivers_by_sm(targets)
    jobs: dict[tuple[str, int], Job] = {}
    for spec in specs:
        check_spec(spec)
        for sm, cuda in drivers.items():
            job = Job(replace(spec, sms=()), sm, cuda)
            if _is_for(spec, sm) and jobs.setdefault((spec.name, sm), job) != job:
                raise CompileError(f"two specifications that differ are called {job}; give them other names")
    if not jobs:
        raise CompileError("there is nothing to compile: no specification is for an architecture of the targets")
    return list(jobs.values())


def check_spec(spec: KernelSpec) -> None:
    """Raises CompileError unless `spec` can be compiled, put into a pack and, where it says so, given to a plugin."""
    problem = _problem(spec)
    if problem:
        raise CompileError(f"the specification {spec.name!r:.160} {problem}")


def _problem(spec: KernelSpec) -> str | None:
    names = [parameter.name for parameter in spec.parameters]
    types = {f"*{element}" for element in ELEMENT_BYTES} | {"i32"}
    unknown = [p.type for p in spec.parameters if p.type not in types]
    if not KERNEL_NAME.fullmatch(spec.name):
        return "needs a name of letters, digits, dots, dashes and underscores"
    if not _FUNCTION.fullmatch(spec.function):
        return f"needs a function of the form module:name, got {spec.function!r:.80}"
    if unknown:
        return f"has parameters of type {', '.join(unknown)}; known are {', '.join(sorted(types))}"
    if len(set(names)) != len(names) or set(names) & set(spec.constants):
        return "names a parameter twice, or as a constant too"
    odd = [name for name, value in spec.constants.items() if not _is_constant(value)]
    if odd:
        return f"has constants that are no finite number, string or None: {', '.join(odd)}"
    if not 1 <= len(spec.grid) <= 3:
        return f"needs 1 to 3 grid axes, got {len(spec.grid)}"
    if not 1 <= spec.warps <= 32 or spec.warps & (spec.warps - 1) or spec.stages < 1:
        return f"needs warps that are a power of two up to 32 and stages from 1, got {spec.warps} and {spec.stages}"
    return _plugin_problem(spec) if spec.plugin else None


def _plugin_problem(spec: KernelSpec) -> str | None:
    kinds = "".join("p" if parameter.is_pointer else "n" for parameter in spec.parameters)
    if not re.fullmatch("p+n+p+", kinds):
        return "is for a plugin: its parameters must be inputs, then numbers, then outputs"
    without = [parameter.name for parameter in spec.parameters if parameter.is_pointer and not parameter.shape]
    if without:
        return f"is for a plugin: it must give the shapes of {', '.join(without)}"
    inputs = spec.parameters[: kinds.index("n")]
    found = {size for parameter in inputs for size in parameter.shape if isinstance(size, str)}
    needed = {parameter.name for parameter in spec.parameters if not parameter.is_pointer}
    needed |= {name for axis in spec.grid for name in axis.product if name not in spec.constants}
    if needed - found:
        return f"is for a plugin: {', '.join(sorted(needed - found))} must appear in the shape of an input"
    return None


def _is_for(spec: KernelSpec, sm: int) -> bool:
    if spec.sms and sm not in spec.sms:
        return False
    return sm >= _BFLOAT16_SINCE or all(parameter.type != "*bf16" for parameter in spec.parameters)


def _is_constant(value: object) -> bool:
    return value is None or isinstance(value, (int, str)) or (isinstance(value, float) and math.isfinite(value))


def specs_to_json(specs: Iterable[KernelSpec]) -> str:
    """The specifications as JSON. Raises CompileError for one that breaks a rule."""
    plain = []
    for spec in specs:
        check_spec(spec)
        plain.append({**asdict(replace(spec, constants={})), "constants": dict(spec.constants)})
    return json.dumps(plain)


def specs_from_json(text: str) -> tuple[KernelSpec, ...]:
    """What `specs_to_json` wrote."""
    return tuple(_spec(value) for value in json.loads(text))


def _spec(value: Mapping[str, Any]) -> KernelSpec:
    return KernelSpec(
        **{
            **value,
            "parameters": tuple(Parameter(**{**p, "shape": tuple(p["shape"])}) for p in value["parameters"]),
            "grid": tuple(GridAxis(tuple(axis["product"]), axis["divisor"]) for axis in value["grid"]),
            "sms": tuple(value["sms"]),
        }
    )
