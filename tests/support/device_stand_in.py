"""A device without models and cameras: it paints squares, and finds those whose colour a prompt names."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from mmedge.device.status import ModelStatus, Status
from mmedge.errors import InputError
from mmedge.results import Classification, Grounding, Result
from mmedge.sinks.sink import Observation, PromptsChange, Sink
from mmedge.sources.frame import Frame
from mmedge.streaming.report import SourceReport
from mmedge.streaming.states import State, StateChange
from mmedge.triggers.event import Event

COLORS = {"red": (40, 50, 215), "green": (70, 170, 60), "blue": (200, 110, 40), "yellow": (60, 200, 235)}
SIDE = 72


class DeviceStandIn:
    """Implements `mmedge.device.status.RunningDevice`: two models, ``squares`` (boxes) and ``mood`` (scores).

    `step` makes one frame and result of each source; `run` does so in a thread until `stop`.

    Args:
        sources: Names, each with its model.
        pixels: False: observations and events have no frames.
    """

    def __init__(
        self,
        sources: dict[str, str] | None = None,
        *,
        pixels: bool = True,
        size: tuple[int, int] = (640, 360),
        device: str = "stand-in",
    ) -> None:
        self._sources = sources or {"door": "squares", "yard": "squares", "desk": "mood"}
        self._pixels, self._size, self._name = pixels, size, device
        self._lock = threading.RLock()
        self._prompts: dict[str, tuple[str, ...]] = {"squares": ("a red square",), "mood": ("calm", "busy", "empty")}
        self._versions = dict.fromkeys(self._prompts, 1)
        self._newest: dict[str, Observation] = {}
        self._events: list[Event] = []
        self._states: dict[str, State] = dict.fromkeys(self._sources, "live")
        self._since = dict.fromkeys(self._sources, time.monotonic())
        self._reasons: dict[str, str | None] = dict.fromkeys(self._sources)
        self._count = 0
        self._started = time.monotonic()
        self._sinks: dict[str, Sink] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def status(self) -> Status:
        with self._lock:
            return {
                "device": self._name,
                "version": "0.0.0",
                "started_at": "2026-01-31T12:00:00.000000Z",
                "uptime_s": round(time.monotonic() - self._started, 3),
                "pixels": self._pixels,
                "models": {name: self._model(name) for name in sorted(set(self._sources.values()))},
                "sources": {name: self._source(name) for name in self._sources},
                "sinks": {
                    "log": {"kind": "jsonl", "written": self._count, "dropped": 0, "errors": 0, "last_error": None}
                },
                "triggers": {
                    "visitor": {
                        "prompt": "a red square",
                        "sources": list(self._sources),
                        "on": 0.8,
                        "off": 0.6,
                        "zone": None,
                        "active": [],
                    }
                },
            }

    @property
    def ready(self) -> bool:
        return bool(self._newest)

    def set_prompts(self, model: str, prompts: Sequence[str]) -> int:
        with self._lock:
            if model not in self._prompts:
                raise InputError(f"there is no model {model!r}")
            if any(not prompt.strip() for prompt in prompts):
                raise InputError("prompts must not be blank")
            self._prompts[model] = tuple(prompts)
            self._versions[model] += 1
            watching = tuple(name for name, used in self._sources.items() if used == model)
            change = PromptsChange(model, watching, tuple(prompts), self._versions[model], datetime.now(timezone.utc))
            self._tell(change)
            return change.version

    def newest(self, source: str) -> Observation | None:
        if source not in self._sources:
            raise InputError(f"there is no source {source!r}")
        return self._newest.get(source)

    def events(self, limit: int = 100) -> list[Event]:
        return self._events[:limit]

    def attach(self, name: str, sink: Sink, capacity: int = 64) -> None:
        with self._lock:
            self._sinks[name] = sink

    def detach(self, name: str) -> None:
        with self._lock:
            sink = self._sinks.pop(name, None)
        if sink is not None:
            sink.close()

    def step(self, source: str | None = None) -> None:
        """One frame and its result, of one source or of each."""
        with self._lock:
            self._count += 1
            for name in self._sources if source is None else (source,):
                frame = self._paint(name)
                observation = Observation(frame if self._pixels else None, self._result(name, frame))
                self._newest[name] = observation
                self._tell(observation)

    def change_state(self, source: str, state: State, reason: str | None = None) -> None:
        with self._lock:
            change = StateChange(
                source, self._states[source], state, time.monotonic(), datetime.now(timezone.utc), reason
            )
            self._states[source], self._since[source], self._reasons[source] = state, change.at, reason
            self._tell(change)

    def happen(self, source: str, *, kind: Any = "start", id: str | None = None, ago: float = 0.0) -> Event:
        """Tell an event whose best frame is the newest one."""
        with self._lock:
            seen = self._newest[source]
            at = datetime.now(timezone.utc) - timedelta(seconds=ago)
            event = Event(
                id=id or f"e{len(self._events)}",
                kind=kind,
                trigger="visitor",
                source=source,
                prompt="a red square",
                at=time.monotonic() - ago,
                at_utc=at,
                started_utc=at - timedelta(seconds=3),
                duration_s=3.0,
                score=0.9,
                best_score=0.95,
                best=seen.frame,
                best_result=seen.result,
                reason="below" if kind == "end" else None,
            )
            self._events = [event, *(other for other in self._events if other.id != event.id)]
            self._tell(event)
            return event

    def run(self, fps: float = 15.0) -> DeviceStandIn:
        self._thread = threading.Thread(target=self._loop, args=(1 / fps,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2)

    def _loop(self, pause: float) -> None:
        while not self._stopping.wait(pause):
            for name, state in self._states.items():
                if state == "live":
                    self.step(name)

    def _tell(self, item: Any) -> None:
        for sink in tuple(self._sinks.values()):
            sink.write(item)

    def _places(self, name: str) -> dict[str, tuple[int, int]]:
        width, height = self._size
        phase = self._count / 40 + sum(map(ord, name))
        return {
            color: (
                int((0.5 + 0.42 * np.sin(phase * (0.5 + 0.13 * row) + row)) * (width - SIDE)),
                int(height * (0.1 + 0.2 * row)) % (height - SIDE),
            )
            for row, color in enumerate(COLORS)
        }

    def _paint(self, name: str) -> Frame:
        width, height = self._size
        image = np.empty((height, width, 3), np.uint8)
        image[:] = np.linspace(52, 118, height, dtype=np.uint8)[:, None, None]
        for color, (x, y) in self._places(name).items():
            image[y : y + SIDE, x : x + SIDE] = COLORS[color]
        return Frame(image, name, self._count, time.monotonic(), datetime.now(timezone.utc), state=self._states[name])

    def _result(self, name: str, frame: Frame) -> Result:
        model = self._sources[name]
        prompts = self._prompts[model]
        stamp: dict[str, Any] = {
            "source": name,
            "frame": frame.index,
            "captured": frame.captured,
            "captured_at": frame.captured_at,
            "age_ms": 12.5,
            "state": frame.state,
            "prompt_version": self._versions[model],
            "latency_ms": 8.0 + 3 * np.sin(self._count / 25 + len(name)),
        }
        if model == "mood":
            scores = np.array([0.5 + 0.45 * np.sin(self._count / 30 + k) for k in range(len(prompts))], np.float32)
            return Classification(**stamp, labels=prompts, scores=scores)
        places = self._places(name)
        found = [(k, places[color]) for k, text in enumerate(prompts) for color in COLORS if color in text]
        boxes = np.array([(x, y, x + SIDE, y + SIDE) for _, (x, y) in found], np.float32).reshape(-1, 4)
        return Grounding(
            **stamp,
            labels=tuple(prompts[k] for k, _ in found),
            scores=np.full(len(found), 0.93, np.float32),
            boxes=boxes,
            prompts=np.array([k for k, _ in found], np.int64),
            all_scores=np.array([0.93 if any(c in text for c in COLORS) else 0.1 for text in prompts], np.float32),
        )

    def _model(self, name: str) -> ModelStatus:
        stage = {"label": ["image"], "engine": "onnxruntime", "provider": "CPUExecutionProvider", "fallbacks": []}
        counts = {"runs": self._count, "cache_hits": 0, "total_ms": 8.0 * self._count, "mean_ms": 8.0, "last_ms": 8.1}
        text = {**stage, **counts, "label": ["text"], "runs": 3, "cache_hits": 1, "total_ms": 12.0, "mean_ms": 4.0}
        return {
            "info": {
                "name": name,
                "version": "1",
                "task": {"kind": "ground" if name == "squares" else "classify"},
                "inputs": {"image": "image", "text": "text"},
                "precision": "fp32",
                "prompts": list(self._prompts[name]),
                "prompt_version": self._versions[name],
            },
            "stages": {"image": {**stage, **counts}, "text": text},
            "sources": [source for source, used in self._sources.items() if used == name],
            "error": None,
        }

    def _source(self, name: str) -> dict[str, Any]:
        report = SourceReport(
            name=name,
            live=True,
            fps=15.0,
            state=self._states[name],
            state_s=time.monotonic() - self._since[name],
            reason=self._reasons[name],
            size=self._size,
            read=self._count + 2,
            processed=self._count,
            dropped={"newer": 2},
            errors=0,
            reconnects=0,
            incomplete=None,
        )
        seen = self._newest.get(name)
        extra = {
            "model": self._sources[name],
            "age_ms": None if seen is None else round(seen.result.age_now_ms(), 1),
            "latency_ms": None if seen is None else round(seen.result.latency_ms, 2),
            "rate": None if seen is None else 15.0,
        }
        return {**report.to_json(), **extra}
