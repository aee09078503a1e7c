"""Between the device, whose threads tell what happens, and the sockets of the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from mmedge.device.status import RunningDevice
from mmedge.server.models import DeviceStatus
from mmedge.server.pictures import Pictures
from mmedge.sinks.sink import Item, Observation, PromptsChange
from mmedge.streaming.states import StateChange, utc_text
from mmedge.triggers.event import Event

# With characters that no name in a device file has.
SINK = "(server)"

_log = logging.getLogger("mmedge.server")
_MOST_NOTES = 256
_STATUS_S = 1.0


class Listener(Protocol):
    """A socket, as the hub sees it."""

    def note(self, message: dict[str, Any]) -> None: ...

    def status(self, text: str) -> None: ...

    def wake(self) -> None: ...


class Hub:
    """Takes everything from the device and hands it to the listeners: a `Sink`, and the life of the server's tasks.

    Attributes:
        pictures: Where JPEG files are made.
        newest: The newest observation of each source since the server began.
        listeners: The sockets that are told.
        sockets: How many are open, those that are not told yet included.
        skipped: Notes that a socket did not take in time.
    """

    def __init__(self, device: RunningDevice) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._notes: deque[dict[str, Any]] = deque(maxlen=_MOST_NOTES)
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._asking: ThreadPoolExecutor | None = None
        self._changing: ThreadPoolExecutor | None = None
        self.pictures = Pictures()
        self.newest: dict[str, Observation] = {}
        self.listeners: set[Listener] = set()
        self.sockets = 0
        self.skipped = 0

    @property
    def kind(self) -> str:
        return "server"

    def write(self, item: Item) -> None:
        """Called from the device's thread for this sink."""
        with self._lock:
            if isinstance(item, Observation):
                self.newest[item.result.source] = item
            else:
                self._notes.append(as_note(item))
            if self._scheduled or self._loop is None:
                return
            self._scheduled = True
        # The loop may be gone when the device is still telling its last.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._hand_on)

    def close(self) -> None:
        """Nothing to finish: what the sockets show ends with the server."""

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asking = ThreadPoolExecutor(2, thread_name_prefix="mmedge-status")
        self._changing = ThreadPoolExecutor(1, thread_name_prefix="mmedge-prompts")
        self._device.attach(SINK, self)
        self._ticker = asyncio.create_task(self._tell_status())

    async def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        asking, changing, loop = self._asking, self._changing, self._loop
        with self._lock:
            self._loop = None
        if asking is not None and changing is not None and loop is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(loop.run_in_executor(asking, self._device.detach, SINK), 0.5)
            asking.shutdown(wait=False, cancel_futures=True)
            changing.shutdown(wait=False, cancel_futures=True)
        self.pictures.close()

    async def read_status(self) -> DeviceStatus:
        """The device's status, asked for beside the event loop."""
        status = await asyncio.get_running_loop().run_in_executor(self._asking, self._device.status)
        for gone in self.newest.keys() - status["sources"].keys():
            # After a reload: a source that is no more has no newest frame.
            self.newest.pop(gone, None)
        return DeviceStatus.model_validate(status)

    async def set_prompts(self, model: str, prompts: Sequence[str]) -> int:
        """See `RunningDevice.set_prompts`; beside the event loop, one change at a time."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._changing, self._device.set_prompts, model, prompts)

    def _hand_on(self) -> None:
        with self._lock:
            self._scheduled = False
            notes = list(self._notes)
            self._notes.clear()
        for listener in tuple(self.listeners):
            for note in notes:
                listener.note(note)
            listener.wake()

    async def _tell_status(self) -> None:
        while True:
            await asyncio.sleep(_STATUS_S)
            if not self.listeners:
                continue
            try:
                text = status_text(await self.read_status())
            except Exception as error:
                # The page marks everything as old when this stays away; the next second tries again.
                _log.warning("the status of the device cannot be read: %s", type(error).__name__)
                continue
            for listener in tuple(self.listeners):
                listener.status(text)


def as_note(item: StateChange | Event | PromptsChange) -> dict[str, Any]:
    """What the sockets tell about everything but frames."""
    if isinstance(item, StateChange):
        return {"type": "state", **item.to_json()}
    if isinstance(item, Event):
        return {"type": "event", **event_json(item)}
    return {
        "type": "prompts",
        "model": item.model,
        "sources": list(item.sources),
        "prompts": list(item.prompts),
        "version": item.version,
        "at": utc_text(item.at_utc),
    }


def event_json(event: Event) -> dict[str, Any]:
    """An event as the interface gives it."""
    return {**event.to_json(), "picture": event.best is not None}


def status_text(status: DeviceStatus) -> str:
    """The message of a socket about the device's status."""
    head = json.dumps({"type": "status", "clock": round(time.monotonic(), 4)})
    return f'{head[:-1]}, "status": {status.model_dump_json()}}}'
