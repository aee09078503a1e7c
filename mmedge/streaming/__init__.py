"""From sources that come and go to results that say how fresh they are."""

from __future__ import annotations

from mmedge.streaming.options import Backoff, SourceOptions
from mmedge.streaming.report import SourceReport
from mmedge.streaming.states import STATES, State, StateChange
from mmedge.streaming.stream import Stream, stream

__all__ = ["STATES", "Backoff", "SourceOptions", "SourceReport", "State", "StateChange", "Stream", "stream"]
