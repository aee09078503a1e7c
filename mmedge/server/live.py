"""The live socket: what is told to one client, at its own pace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections import deque
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from mmedge.server.access import Buckets
from mmedge.server.hub import Hub, status_text
from mmedge.server.pictures import Shot, offered_width
from mmedge.sinks.sink import Observation

LONGEST_MESSAGE = 16 * 1024

_MOST_NOTES = 256
_MESSAGES_PER_SECOND = 1000.0
_MOST_MISTAKES = 8


class Watch(BaseModel):
    """``{"type": "watch", …}``: what a client wants to see. Without one it gets no results.

    Attributes:
        sources: Names; None: all.
        rate: Most results a second of each source.
        width: Of the pictures in pixels, rounded up to one of `mmedge.server.pictures.WIDTHS`; None: the frame's own.
        pictures: With the frames, where pixels may leave; else results alone.
        window: Send no more than so many results ahead of the client's ``{"type": "seen", "number": n}``; None: the
            connection alone says how fast. A client that says what it has seen never looks at what is long past.
    """

    model_config = ConfigDict(extra="forbid")

    type: Literal["watch"]
    sources: Annotated[list[Annotated[str, Field(max_length=500)]], Field(max_length=256)] | None = None
    rate: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] = 10.0
    width: Annotated[int, Field(ge=16, le=10_000)] | None = 640
    pictures: bool = True
    window: Annotated[int, Field(ge=1, le=1000)] | None = None


class Seen(BaseModel):
    """``{"type": "seen", …}``: the client has worked through everything up to this number."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["seen"]
    number: Annotated[int, Field(ge=0)]


class LiveSocket:
    """One client. What it does not take in time is left out: of results all but the newest, of notes the oldest."""

    def __init__(self, hub: Hub, socket: WebSocket, send_timeout: float) -> None:
        self._hub = hub
        self._socket = socket
        self._send_timeout = send_timeout
        self._notes: deque[dict[str, Any]] = deque(maxlen=_MOST_NOTES)
        self._status: str | None = None
        self._wake = asyncio.Event()
        self._watch: Watch | None = None
        self._sent: dict[str, Observation] = {}
        self._due: dict[str, float] = {}
        self._number = self._seen = 0
        self._incoming = Buckets(_MESSAGES_PER_SECOND, _MESSAGES_PER_SECOND)
        self._mistakes = 0

    def note(self, message: dict[str, Any]) -> None:
        if len(self._notes) == _MOST_NOTES:
            self._hub.skipped += 1
        self._notes.append(message)

    def status(self, text: str) -> None:
        self._status = text
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until the client leaves or is too slow. Raises nothing of the client's making."""
        await self._socket.accept()
        self._status = status_text(await self._hub.read_status())
        self._wake.set()
        self._hub.listeners.add(self)
        tasks = [asyncio.create_task(self._send_all()), asyncio.create_task(self._receive_all())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._hub.listeners.discard(self)
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, (WebSocketDisconnect, OSError)):
                    raise outcome

    async def _send_all(self) -> None:
        try:
            while True:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._pause())
                self._wake.clear()
                await self._send_notes()
                for source in self._ready():
                    await self._send_result(source)
        except asyncio.TimeoutError:
            self._cut()

    async def _send_notes(self) -> None:
        while self._notes:
            await self._send_json(self._notes.popleft())
        status, self._status = self._status, None
        if status is not None:
            await self._send({"type": "websocket.send", "text": status})

    def _chosen(self) -> list[str]:
        """The sources that were asked for and have something new."""
        watch = self._watch
        if watch is None:
            return []
        names = self._hub.newest if watch.sources is None else watch.sources
        newest = self._hub.newest
        return [name for name in names if name in newest and newest[name] is not self._sent.get(name)]

    def _ready(self) -> list[str]:
        now = time.monotonic()
        # The one that has waited for longest first: with a small window the first ones would take it all.
        waiting = sorted(self._chosen(), key=lambda name: self._due.get(name, 0.0))
        return [name for name in waiting if self._due.get(name, 0.0) <= now]

    def _pause(self) -> float | None:
        due = [self._due.get(name, 0.0) for name in self._chosen()]
        if not due or not self._open_window():
            return None
        return max(0.001, min(due) - time.monotonic())

    def _open_window(self) -> bool:
        window = None if self._watch is None else self._watch.window
        return window is None or self._number - self._seen < window

    async def _send_result(self, source: str) -> None:
        watch = self._watch
        observation = self._hub.newest.get(source)
        if watch is None or observation is None or not self._open_window():
            return
        self._sent[source] = observation
        # From the time it was due, so that rates do not sink by what the sending takes; but never to catch up.
        now = time.monotonic()
        self._due[source] = max(self._due.get(source, 0.0) + 1 / watch.rate, now)
        frame = observation.frame
        jpeg = None
        if frame is not None and watch.pictures:
            shot = Shot(("source", source), frame, width=offered_width(watch.width))
            jpeg = await self._hub.pictures.jpeg(shot)
        self._number += 1
        head = _head(observation, self._number)
        if jpeg is None:
            await self._send_json({"type": "result", **head})
        else:
            await self._send({"type": "websocket.send", "bytes": packed({"type": "frame", **head}, jpeg)})

    async def _send_json(self, message: dict[str, Any]) -> None:
        text = json.dumps({**message, "clock": round(time.monotonic(), 4)})
        await self._send({"type": "websocket.send", "text": text})

    async def _send(self, message: Message) -> None:
        await asyncio.wait_for(self._socket.send(message), self._send_timeout)

    def _cut(self) -> None:
        """End a connection that does not take what it is sent; a polite close would wait for it, too."""
        transport = self._socket.scope.get("state", {}).get("transport")
        if transport is not None:
            transport.abort()

    async def _receive_all(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if self._incoming.take("") > 0:
                await self._send({"type": "websocket.close", "code": 1008, "reason": "too many messages"})
                return
            error = self._take(message.get("text"))
            if error is None:
                continue
            self._mistakes += 1
            if self._mistakes >= _MOST_MISTAKES:
                await self._send({"type": "websocket.close", "code": 1008, "reason": "too many mistakes"})
                return
            self.note({"type": "error", "detail": error})
            self._wake.set()

    def _take(self, text: str | None) -> str | None:
        """Do what a message says; why not, where it cannot be done."""
        try:
            value = json.loads(text or "")
            kind = value.get("type") if isinstance(value, dict) else None
            if kind == "seen":
                self._seen = min(self._number, max(self._seen, Seen.model_validate(value).number))
            else:
                self._watch = Watch.model_validate(value)
                self._sent.clear()
                self._due.clear()
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            return f"{'.'.join(str(part) for part in first['loc']) or 'message'}: {first['msg']}"
        except (ValueError, RecursionError):
            return "a message must be a JSON object, as docs/server.md says"
        self._wake.set()
        return None


def packed(head: dict[str, Any], body: bytes) -> bytes:
    """A binary message: the length of the JSON as 4 bytes, big-endian, the JSON, and the JPEG file."""
    text = json.dumps(head).encode()
    return struct.pack(">I", len(text)) + text + body


def _head(observation: Observation, number: int) -> dict[str, Any]:
    frame, result = observation.frame, observation.result
    return {
        "source": result.source,
        "number": number,
        "clock": round(time.monotonic(), 4),
        "age_now_ms": round(result.age_now_ms(), 1),
        "size": None if frame is None else [frame.image.shape[1], frame.image.shape[0]],
        "result": result.to_json(),
    }
