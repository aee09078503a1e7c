"""The machine that measures: its engines, what its processor can, and what it is called."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from mmedge.engines import Engine, open_engine
from mmedge.errors import EngineError
from mmedge_export.precision.variants import Precision

_log = logging.getLogger("mmedge")

REFERENCE = "onnxruntime"
"""The engine by which a variant is judged that no engine here is made for."""


@dataclass(frozen=True)
class Machine:
    """Engines that run on this machine's processor.

    Attributes:
        engines: By name.
        capabilities: What the processor computes natively, in OpenVINO's words; empty where OpenVINO is missing.
        description: Processor, threads and versions; nothing that tells whose machine it is.
    """

    engines: dict[str, Engine]
    capabilities: frozenset[str]
    description: str

    def tries(self, variant: Precision) -> list[str]:
        """The engines on which a variant can be measured here."""
        able = variant.needs is None or variant.needs in self.capabilities
        return [name for name in variant.measured_on if able and name in self.engines]


def this_machine(threads: int | None) -> Machine:
    """Open every engine that runs on the processor.

    Args:
        threads: Of each stage; None leaves it to the engines.

    Raises:
        EngineError: ONNX Runtime itself is missing.
    """
    engines = {REFERENCE: open_engine(f"{REFERENCE}:cpu", threads=threads)}
    capabilities: frozenset[str] = frozenset()
    versions = [f"onnxruntime {onnxruntime.__version__}"]
    try:
        engines["openvino"] = open_engine("openvino:cpu", threads=threads)
        openvino = importlib.import_module("openvino")
        found = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        capabilities = frozenset(str(item) for item in found)
        versions.append(f"openvino {str(openvino.__version__).partition('-')[0]}")
    except (EngineError, ImportError) as error:
        _log.info("the precision search measures without OpenVINO: %s", error)
    count = threads or os.cpu_count() or 1
    return Machine(engines, capabilities, ", ".join([_processor(), f"{count} threads", *versions]))


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else (platform.processor() or platform.machine())
