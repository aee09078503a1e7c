"""The benchmark for GPUs runs from start to end where there is none, and says that it measured nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"


def test_rehearsal_without_a_gpu() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--rehearse"], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("4 cases checked against their references; nothing was timed")
    assert " us (" not in done.stdout


def test_nothing_is_measured_without_a_gpu() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=250)
    assert done.returncode == 1
    assert "nothing was measured" in done.stderr
