"""Targets as data: which architectures, which PTX version."""

from __future__ import annotations

import pytest

from mmedge_kernels.aot.targets import ARCHITECTURES, TARGETS, drivers_by_sm, find_target, ptx_version
from mmedge_kernels.errors import CompileError


@pytest.mark.parametrize(
    ("name", "sms", "ptx"),
    [
        ("jetson-orin-jp6", (87,), (8, 5)),
        ("jetson-orin-jp7", (87,), (9, 0)),
        ("jetson-thor", (110,), (9, 0)),
        ("rtx", (75, 86, 89, 120), (8, 7)),
        ("datacenter", (80, 90), (8, 5)),
        ("sm_75", (75,), (8, 5)),
        ("sm_90", (90,), (8, 5)),
        ("sm_120", (120,), (8, 7)),
        ("sm_110", (110,), (9, 0)),
    ],
)
def test_known_targets(name, sms, ptx):
    target = find_target(name)
    assert (target.name, target.sms, target.ptx) == (name, sms, ptx)


@pytest.mark.parametrize("name", ["", "orin", "sm_", "sm_85", "sm_87a", "87", "sm_²", "SM_87", "x" * 500])
def test_unknown_targets(name):
    with pytest.raises(CompileError, match=r"unknown target .*jetson-orin-jp6, .*sm_87") as caught:
        find_target(name)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("cuda", "ptx"),
    [((12, 0), (8, 0)), ((12, 5), (8, 5)), ((12, 6), (8, 5)), ((12, 7), (8, 6)), ((12, 8), (8, 7)), ((13, 1), (9, 1))],
)
def test_ptx_version_of_a_driver(cuda, ptx):
    assert ptx_version(cuda) == ptx


def test_old_drivers_are_refused():
    with pytest.raises(CompileError, match=r"from CUDA 12.0 on are supported, got 11.8"):
        ptx_version((11, 8))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_driver_knows_its_architectures(target):
    assert all(ARCHITECTURES[sm].cuda <= target.cuda for sm in target.sms)


def test_the_oldest_driver_counts():
    targets = [find_target(name) for name in ("jetson-orin-jp7", "sm_90", "jetson-orin-jp6")]
    assert drivers_by_sm(targets) == {87: (12, 6), 90: (12, 6)}
    assert list(drivers_by_sm([find_target("rtx")])) == [75, 86, 89, 120]
