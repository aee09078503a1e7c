"""A gate in front of a stage: for tests that need to know what else happens while a stage runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from mmedge.engines.onnxruntime import OnnxRuntimeStage

PATIENCE_S = 20.0
"""Longer than anything takes that is not stuck."""


class Gate:
    """Whoever runs the stage `stage` on the engine whose stages are of type `kind` waits here until `open`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stage: str, kind: type[Any] = OnnxRuntimeStage) -> None:
        self._opened = threading.Event()
        self._came = threading.Semaphore(0)
        run = kind.run

        def held(this: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
            if this._name == stage:
                self._came.release()
                assert self._opened.wait(PATIENCE_S), "the gate was never opened"
            result: dict[str, Any] = run(this, feeds)
            return result

        monkeypatch.setattr(kind, "run", held)

    def wait(self) -> None:
        """Return when the next one has come."""
        assert self._came.acquire(timeout=PATIENCE_S), f"nobody came within {PATIENCE_S:g} s"

    def stays_empty(self, seconds: float = 0.2) -> bool:
        """Nobody else comes."""
        return not self._came.acquire(timeout=seconds)

    def open(self) -> None:
        """Let everybody through, from now on."""
        self._opened.set()
