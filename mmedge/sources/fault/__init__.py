"""Faults around any source: what cameras do to a robot, on purpose and repeatable."""

from __future__ import annotations

from mmedge.sources.fault.source import FaultSource
from mmedge.sources.fault.words import FAULTS, Faults, faults_of, split_faults

__all__ = ["FAULTS", "FaultSource", "Faults", "faults_of", "split_faults"]
