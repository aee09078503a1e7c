"""Running the command line in tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "200"}
"""For a process of its own that sees what this one sees."""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Mmedge = Callable[..., Outcome]
