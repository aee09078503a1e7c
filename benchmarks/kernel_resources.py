"""Writes what the compiled kernels need, for every GPU that is supported, as the table of docs/kernel-resources.md.

    python benchmarks/kernel_resources.py docs/kernel-resources.md      # compiles some 370 kernels, minutes

No GPU is needed: registers, spills and shared memory are read from the machine code.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from mmedge_kernels.aot.build import compile_for, gather_specs
from mmedge_kernels.aot.targets import find_target

SMS = (75, 80, 86, 87, 89, 90, 110, 120)
HEADER = """# What the compiled kernels need

Registers of a thread and, behind the stroke, KiB of shared memory of a block, as Triton {triton} compiles the standard
kernels; a dash where there is no such kernel (no bfloat16 on sm_75). **Spilled registers: {spills}.**

Names say dtype, size of a head (d) or width (d) and heads (h), and tokens (l; `any`: a number at launch). Made by
`python benchmarks/kernel_resources.py docs/kernel-resources.md`.
"""


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    targets = [find_target(f"sm_{sm}") for sm in SMS]
    compiled = compile_for(targets, gather_specs(targets, None, ()))
    cells: dict[str, dict[int, str]] = {}
    for each in compiled:
        kernel = each.kernel
        cells.setdefault(kernel.name, {})[kernel.sm] = f"{kernel.registers} / {round(kernel.shared_bytes / 1024)}"
    spills = sum(each.kernel.stack_bytes > 0 for each in compiled)
    lines = [HEADER.format(triton=version("triton"), spills="none" if not spills else f"in {spills} kernels")]
    lines += ["| kernel | " + " | ".join(f"sm_{sm}" for sm in SMS) + " |", "|---" * (len(SMS) + 1) + "|"]
    lines += [f"| `{name}` | " + " | ".join(cells[name].get(sm, "–") for sm in SMS) + " |" for name in sorted(cells)]
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
