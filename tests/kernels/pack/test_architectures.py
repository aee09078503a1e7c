"""Which machine code runs on which GPU."""

from __future__ import annotations

import pytest

from mmedge_kernels.errors import PackError
from mmedge_kernels.pack.architectures import parse_architecture, runs_on, why_not


@pytest.mark.parametrize(
    ("architecture", "sm", "runs"),
    [
        ("sm_87", 87, True),
        ("sm_86", 86, True),
        ("sm_86", 89, True),
        ("sm_80", 86, True),
        ("sm_80", 89, True),
        ("sm_90a", 90, True),
        ("sm_120a", 120, True),
        ("sm_80", 87, False),  # Orin takes its own code only
        ("sm_86", 87, False),
        ("sm_87", 89, False),
        ("sm_89", 86, False),
        ("sm_86", 80, False),
        ("sm_80", 90, False),
        ("sm_75", 80, False),
        ("sm_120a", 121, False),
        ("sm_100a", 103, False),
        ("sm_110a", 110, True),
        ("sm_72", 75, False),
    ],
)
def test_runs_on(architecture, sm, runs):
    assert runs_on(architecture, sm) is runs


@pytest.mark.parametrize(
    ("architecture", "sm", "reason"),
    [
        ("sm_80", 87, "Jetson chips run code of their own architecture only"),
        ("sm_87", 89, "Jetson chips run code of their own architecture only"),
        ("sm_89", 86, "a minor version above the GPU's"),
        ("sm_80", 90, "another major version"),
        ("sm_120a", 121, "the letter in sm_120a ties it to one GPU"),
    ],
)
def test_why_not(architecture, sm, reason):
    assert why_not(architecture, sm) == reason


@pytest.mark.parametrize(
    "architecture", ["", "87", "sm_", "sm_8", "sm_8700", "sm_087", "sm_90b", "compute_90", "sm_90 "]
)
def test_no_architecture(architecture):
    with pytest.raises(PackError, match="is written sm_87 or sm_90a"):
        parse_architecture(architecture)
