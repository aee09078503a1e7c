"""Every standard kernel is compiled, and none that is built to stay in registers spills.

For the oldest architecture, a Jetson's and the newest; for all with MMEDGE_ALL_TARGETS=1, as `make kernels` does.
"""

from __future__ import annotations

import functools
import os

import pytest

from mmedge_kernels.aot.build import compile_for
from mmedge_kernels.aot.collect import OPERATORS, collect_specs
from mmedge_kernels.aot.compile import CompiledKernel
from mmedge_kernels.aot.report import report_table, spill_messages
from mmedge_kernels.aot.targets import find_target

SMS = (75, 80, 86, 87, 89, 90, 110, 120) if os.environ.get("MMEDGE_ALL_TARGETS") else (75, 87, 120)


@functools.cache
def compiled(operator: str) -> list[CompiledKernel]:
    """All of it once, as many at a time as there are processors; nothing is taken from a cache."""
    targets = [find_target(f"sm_{sm}") for sm in SMS]
    return compile_for(targets, collect_specs(SMS, [operator]))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.timeout(900)
def test_no_spills(operator):
    kernels = [each.kernel for each in compiled(operator)]
    print(report_table(kernels))
    assert spill_messages(kernels) == []
    assert {kernel.sm for kernel in kernels} == set(SMS)


@pytest.mark.parametrize("operator", OPERATORS)
def test_bfloat16_from_sm_80_on(operator):
    types = {(k.sm, p.type) for k in (each.kernel for each in compiled(operator)) for p in k.parameters}
    assert (75, "*bf16") not in types
