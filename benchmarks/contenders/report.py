"""Results of a benchmark: where they were measured, ratios of interleaved rounds, tables and JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"
PACKAGES = ("torch", "transformers", "onnxruntime", "openvino", "numpy", "opencv-python", "pillow")
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def machine(threads: int) -> dict[str, Any]:
    """Processor and packages; nothing that would tell one machine from another of its kind."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {"name": platform.machine(), "features": []}
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    return {"name": fields.get("model name", platform.machine()), "features": [f for f in FEATURES if f in flags]}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Median, least and largest of over / under, round by round."""
    each = [a / b for a, b in zip(over, under, strict=True)]
    return {
        "median": round(statistics.median(each), 3),
        "min": round(min(each), 3),
        "max": round(max(each), 3),
    }


def milliseconds(seconds: Sequence[float]) -> float:
    """The median in milliseconds."""
    return round(1000 * statistics.median(seconds), 3)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def verdict(what: str, value: float, goal: float, *, at_most: bool = False) -> dict[str, Any]:
    """A goal and whether it was met, printed as it is decided."""
    met = value <= goal if at_most else value >= goal
    sign = "<=" if at_most else ">="
    print(f"{'PASS' if met else 'MISS'}  {what}: {value:g} (goal {sign} {goal:g})")
    return {"what": what, "value": value, "goal": f"{sign} {goal:g}", "met": met}


def write(path: Path, value: dict[str, Any]) -> None:
    """JSON, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")
