"""The package as a user gets it: what an import costs, what it brings along, what its public face is."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "triton", "onnx", "transformers", "onnxscript", "mmedge_export")


def test_importing_mmedge_loads_nothing_heavy() -> None:
    code = f"import sys, mmedge; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_and_running_the_built_in_model_loads_nothing_heavy() -> None:
    code = (
        "import sys, mmedge; from mmedge.tabletop import Tabletop\n"
        "with mmedge.load() as model:\n"
        "    model.set_text(['the red cube'])\n"
        "    model(Tabletop(seed=1).frame(0)[0])\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
