"""The process in which kernels are compiled, started by `processes` as ``python -m mmedge_kernels.aot.worker``.

It reads requests, one line of JSON each, forks for each one, and answers with the exit status of the fork. A request
names a folder for the results and either functions that give specifications, or one kernel to compile.
Triton is imported here and nowhere else in `aot`; torch is not.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
import types
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mmedge_kernels
from mmedge_kernels.aot.jobs import specs_from_json, specs_to_json
from mmedge_kernels.aot.processes import EXPLAINED
from mmedge_kernels.errors import CompileError, KernelError
from mmedge_kernels.specification import KernelSpec

_ALIGNMENT = 16


def import_function(reference: str) -> Any:
    """The object that ``module:name`` names.

    The ``__init__`` of an operator's folder here is not run: it imports torch for the operator's public function, and
    the kernels do not need it.
    """
    module, _, name = reference.partition(":")
    top, *inner = module.split(".")
    if top == mmedge_kernels.__name__:
        path = list(mmedge_kernels.__path__)
        for depth, part in enumerate(inner[:-1], start=1):
            path = [str(folder) for at in path if (folder := Path(at) / part).is_dir()]
            package = types.ModuleType(".".join([top, *inner[:depth]]))
            package.__path__ = path
            sys.modules.setdefault(package.__name__, package)
    return getattr(importlib.import_module(module), name)


def main() -> None:
    """Answer requests until there are no more."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what an import prints is no answer
        _import_triton()
        for line in sys.stdin:
            print(_in_a_fork(json.loads(line)), file=answers, flush=True)


def _import_triton() -> None:
    """What every request needs, done once, before the forks."""
    import triton.compiler.code_generator

    # A hash over the whole of Triton, which it makes for the keys of its cache, and remembers.
    getattr(triton.runtime.cache, "triton_key", lambda: None)()


def _in_a_fork(request: dict[str, Any]) -> int:
    """The exit status of a process that does the request; negative: the signal that ended it."""
    fork = os.fork()
    if fork:
        return os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    status = 1
    try:
        _redirect(request["stderr"])
        os.environ.update(request["environment"])
        _answer(request)
        status = 0
    except KernelError as error:  # it says all there is to say, a traceback would only hide it
        print(error, file=sys.stderr)
        status = EXPLAINED
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _redirect(stderr: str) -> None:
    """What compilers print goes to the request's file, and nothing gets between the answers."""
    with open(os.devnull, "rb") as nothing, open(os.devnull, "wb") as nowhere, open(stderr, "wb") as said:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nowhere.fileno(), 1)
        os.dup2(said.fileno(), 2)


def _answer(request: dict[str, Any]) -> None:
    folder = Path(request["folder"])
    if "calls" in request:
        specs = [spec for call in request["calls"] for spec in _called(**call)]
        (folder / "specs.json").write_text(specs_to_json(specs), encoding="utf-8")
        return
    (spec,) = specs_from_json(request["specs"])
    compile_kernel(spec, request["sm"], request["ptx"], folder)


def _called(function: str, argument: Any, sms: list[int]) -> list[KernelSpec]:
    """What ``function(argument)`` gives; specifications that say nothing else are for `sms`."""
    return [spec if spec.sms else replace(spec, sms=tuple(sms)) for spec in import_function(function)(argument)]


def compile_kernel(spec: KernelSpec, sm: int, ptx: int, folder: Path) -> None:
    """Write ``kernel.cubin``, ``kernel.ptx`` and ``kernel.json`` into `folder`. ptx: 85 for PTX ISA 8.5."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if triton.knobs.runtime.interpret:
        raise CompileError("Triton's interpreter is on (TRITON_INTERPRET), it compiles nothing")
    function = import_function(spec.function)
    source = ASTSource(fn=function, **_source(spec, function.arg_names))
    options = {
        "num_warps": spec.warps,
        "num_stages": spec.stages,
        "ptx_version": ptx,
        "enable_fp_fusion": True,  # said, not left to a default that differs between versions of Triton
    }
    compiled = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)
    if "torch" in sys.modules:
        raise CompileError(f"{spec.function} imports torch: kernels that are compiled ahead of time must not")
    (folder / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    (folder / "kernel.ptx").write_text(compiled.asm["ptx"], encoding="utf-8")
    facts = {**_facts(compiled.metadata), "triton": triton.__version__}
    (folder / "kernel.json").write_text(json.dumps(facts), encoding="utf-8")


def _source(spec: KernelSpec, arguments: list[str]) -> dict[str, Any]:
    given = [parameter.name for parameter in spec.parameters]
    if [name for name in arguments if name in given] != given or set(arguments) != {*given, *spec.constants}:
        raise CompileError(
            f"{spec.function} takes {', '.join(arguments)}; the specification has the parameters {', '.join(given)} "
            f"and the constants {', '.join(spec.constants)}: all must be there, parameters in order"
        )
    types = {parameter.name: parameter.type for parameter in spec.parameters}
    aligned = {parameter.name for parameter in spec.parameters if parameter.aligned}
    return {
        "signature": {name: types.get(name, "constexpr") for name in arguments},
        "constexprs": dict(spec.constants),
        "attrs": {(i,): [["tt.divisibility", _ALIGNMENT]] for i, name in enumerate(arguments) if name in aligned},
    }


def _facts(metadata: Any) -> Mapping[str, Any]:
    """What the caller checks and records. Missing fields are an error: then this Triton is not one that was tested."""
    return {
        "entry": metadata.name,
        "warps": metadata.num_warps,
        "shared": metadata.shared,
        "scratch": {name: getattr(metadata, f"{name}_size") for name in ("global_scratch", "profile_scratch")},
        "blocks_in_cluster": metadata.num_ctas,
        "cooperative": metadata.launch_cooperative_grid,
        "dependent": metadata.launch_pdl,
        "tensor_descriptors": len(metadata.tensordesc_meta or ()),
    }


if __name__ == "__main__":
    main()
