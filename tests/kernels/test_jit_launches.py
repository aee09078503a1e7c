"""What the operators launch on a GPU compiles, bound and specialised as a launch binds it; nothing is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "jit_launches.py"


@pytest.mark.parametrize("sm", [75, 87, 90] if os.environ.get("MMEDGE_ALL_TARGETS") else [87])
def test_every_launch_compiles(tmp_path: Path, sm: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(sm)], capture_output=True, text=True, env=environment, timeout=280
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert Counter(json.loads(done.stdout)) == {
        "prompt_attention_strided": 8,
        "cross_attention_forward": 6,
        "cross_attention_backward_queries": 6,
        "cross_attention_backward_keys": 6,
        "frame_first_pass": 2,
        "frame_second_pass": 2,
    }
