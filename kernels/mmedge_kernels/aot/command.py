"""The command line of ``python -m mmedge_kernels.aot``."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmedge_kernels.aot.build import check_spills, compile_for, gather_specs
from mmedge_kernels.aot.collect import OPERATORS
from mmedge_kernels.aot.compile import CompiledKernel
from mmedge_kernels.aot.report import report_table
from mmedge_kernels.aot.targets import ARCHITECTURES, TARGETS, find_target
from mmedge_kernels.aot.write import check_place, write_pack
from mmedge_kernels.errors import KernelError

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all was compiled and written, 1 when not, 2 for arguments that do not parse."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except KernelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _run(options: argparse.Namespace) -> None:
    out: Path | None = options.out
    if out is not None:
        check_place(out)
    targets = [find_target(name) for name in options.target]
    specs = gather_specs(targets, options.operator, options.bundle)
    compiled = compile_for(targets, specs, at_once=options.jobs, done=_Progress())
    kernels = [each.kernel for each in compiled]
    if options.json:
        print(json.dumps([{**asdict(kernel), "spills": kernel.spills} for kernel in kernels]))
    elif options.report or out is None:
        print(report_table(kernels))
    check_spills(compiled)
    if out is not None:
        write_pack(out, compiled, targets)
        print(f"{len(kernels)} kernels in {out}", file=sys.stderr)


class _Progress:
    """One line on standard error for each kernel that is done."""

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self._lock = threading.Lock()

    def __call__(self, compiled: CompiledKernel, total: int) -> None:
        with self._lock:
            print(f"{next(self._count)}/{total} {compiled.kernel.name} sm_{compiled.kernel.sm}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    described = "\n".join(f"  {target.name:16} {target.note}" for target in TARGETS.values())
    parser = argparse.ArgumentParser(
        prog="python -m mmedge_kernels.aot",
        description="Compile the kernels for GPUs that need not be here, into a pack that loads without Triton.",
        epilog=f"targets:\n{described}\n  sm_NN            one of {', '.join(map(str, ARCHITECTURES))}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target", action="append", required=True, metavar="T", help="what to compile for; repeatable")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the pack's folder; without it only the report is made")
    operators = ", ".join(OPERATORS)
    parser.add_argument("--operator", action="append", metavar="NAME", help=f"only these of: {operators}; repeatable")
    bundle = "a .mmedge bundle whose image input is to be served too; repeatable"
    parser.add_argument("--bundle", action="append", default=[], metavar="FILE", help=bundle)
    parser.add_argument("--report", action="store_true", help="print what each kernel needs: registers, spills, memory")
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="compilers at the same time; default: processors")
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return number
