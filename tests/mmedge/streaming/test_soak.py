"""Ten seconds of `benchmarks/soak.py`, which the full length runs with the same code; MMEDGE_SOAK_MINUTES sets more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "soak.py"


def test_a_short_soak_grows_nothing_and_draws_its_plot(tmp_path: Path) -> None:
    minutes = os.environ.get("MMEDGE_SOAK_MINUTES", "0.17")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--minutes", minutes, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60 * float(minutes) + 120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))
    assert all(goal["met"] for goal in written["goals"])
    assert len(written["samples"]["memory_mb"]) >= 20
    with Image.open(tmp_path / "soak.png") as plot:
        assert min(plot.size) > 500
