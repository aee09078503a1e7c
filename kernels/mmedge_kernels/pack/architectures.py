"""GPU architectures: which compiled kernel runs on which GPU.

An SM is written as one number: 87 for compute capability 8.7, 120 for 12.0. Source: NVIDIA's CUDA programming guide
(compute capabilities, binary compatibility).
"""

from __future__ import annotations

import re

from mmedge_kernels.errors import PackError

# Systems on a chip. Binaries are not exchanged between them and cards, nor between two of them.
_TEGRA = frozenset({53, 62, 72, 87, 101, 110})

_ARCHITECTURE = re.compile(r"sm_([1-9][0-9]{1,2})(a?)")


def parse_architecture(architecture: str) -> tuple[int, str]:
    """``sm_90a`` -> (90, "a"). Raises PackError for anything else than sm_NN or sm_NNa."""
    match = _ARCHITECTURE.fullmatch(architecture)
    if match is None:
        raise PackError(f"an architecture is written sm_87 or sm_90a, got {architecture!r:.40}")
    return int(match[1]), match[2]


def runs_on(architecture: str, sm: int) -> bool:
    """Whether machine code for `architecture`, such as ``sm_86`` or ``sm_90a``, runs on a GPU of `sm`.

    It runs on its own SM; on a card also on a higher minor version of the same major one (sm_86 on 8.9), unless a
    letter ties it to one GPU (sm_90a). Code of a system on a chip runs nowhere else, and no other code runs there:
    sm_80 does not run on Orin, which is 8.7.
    """
    own, letter = parse_architecture(architecture)
    if own == sm:
        return True
    if letter or own in _TEGRA or sm in _TEGRA:
        return False
    return own // 10 == sm // 10 and own <= sm


def why_not(architecture: str, sm: int) -> str:
    """One clause that says why `architecture` does not run on `sm`."""
    own, letter = parse_architecture(architecture)
    if own // 10 != sm // 10:
        return "another major version"
    if letter:
        return f"the letter in {architecture} ties it to one GPU"
    if own in _TEGRA or sm in _TEGRA:
        return "Jetson chips run code of their own architecture only"
    return "a minor version above the GPU's"
