"""Recordings in MCAP files that Foxglove opens: frames, detections, results, events, states, prompts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from mmedge.errors import InputError, MissingDependencyError, SinkError
from mmedge.results import Classification, Grounding
from mmedge.sinks.files import Family, WholeFile, check_ending
from mmedge.sinks.foxglove import INFO, SCHEMAS, WARNING, compressed_image, image_annotations, log, nanoseconds
from mmedge.sinks.jpeg import check_quality, encode_jpeg
from mmedge.sinks.naming import slug
from mmedge.sinks.records import encode, record
from mmedge.sinks.sink import Item, Observation, PromptsChange, SinkContext
from mmedge.streaming.states import StateChange
from mmedge.triggers.event import Event

_FLUSH_EVERY_S = 1.0
_MOST_WAITING = 16 * 2**20
_MOST_SOURCES = 256
_SMALLEST = 65536
_OBJECT = {"type": "object"}


class Mcap:
    """Writes MCAP files with these topics, in JSON, logged at the time of capture:

    ``/SOURCE/image``: foxglove.CompressedImage; ``/SOURCE/detections``: foxglove.ImageAnnotations, boxes or scores;
    ``/SOURCE/result``, ``/SOURCE/event``, ``/SOURCE/state``, ``/prompts``: JSON as in `mmedge.sinks.jsonl`; ``/log``:
    foxglove.Log of events, states and prompts.

    What was written reaches the operating system each second, and at once after an event, a state or prompts: a killed
    process leaves a file that is readable up to there, without the index at its end. No file is ever written to again.

    Args:
        path: The first file; further ones, also of later runs, are ``PATH-1.mcap``, ``PATH-2.mcap``, …
        quality: Of the JPEG frames, 1 to 100.
        max_frame_rate: Most frames a second and source; None: all. Results are written for all.
        max_bytes: A file that is larger is finished, and the next begun; at least 65,536. None: no limit.
        segment_s: A file that is older, too; None: no limit.
        keep: How many files there may be; the oldest are deleted. None: all.

    Raises:
        InputError: An argument is out of range.
        SinkError: `path` is no .mcap, or its folder cannot be written to.
        MissingDependencyError: The mcap library is not installed.
    """

    kind = "mcap"

    def __init__(
        self,
        path: str | Path,
        *,
        quality: int = 80,
        max_frame_rate: float | None = None,
        max_bytes: int | None = 500_000_000,
        segment_s: float | None = None,
        keep: int | None = 4,
    ) -> None:
        _writer_class()
        for name, value, least in (("max_bytes", max_bytes, _SMALLEST), ("segment_s", segment_s, 1)):
            if value is not None and not value >= least:
                raise InputError(f"{name} must be at least {least}, or None for no limit, got {value}")
        if max_frame_rate is not None and not max_frame_rate > 0:
            raise InputError(f"max_frame_rate must be above 0, or None for all frames, got {max_frame_rate}")
        self._family = Family(path, ".mcap", keep)
        self._quality = check_quality(quality)
        self._frame_gap = 0.0 if max_frame_rate is None else 1 / max_frame_rate
        self._max_bytes = max_bytes
        self._segment_s = segment_s
        self._frames: dict[str, float] = {}
        self._file: _File | None = None

    def write(self, item: Item) -> None:
        """Record an item.

        Raises:
            SinkError: The file cannot be written to. It stays readable.
        """
        with self._guard():
            file = self._current()
            if isinstance(item, Observation):
                self._observation(file, item)
                if time.monotonic() - file.flushed >= _FLUSH_EVERY_S:
                    file.flush()
            else:
                _happening(file, item)
                file.flush()

    def idle(self) -> None:
        """Write out what waits: called when nothing came for a second."""
        if self._file is not None:
            with self._guard():
                self._file.flush()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._file is not None and self._file.waiting > _MOST_WAITING:
                # It takes nothing any more. The next item begins another.
                self._file.abandon()
                self._file = None
            raise SinkError(f"{self._family.path} cannot be written to: {error.strerror or error}") from error

    def _observation(self, file: _File, item: Observation) -> None:
        result = item.result
        at = result.captured_at
        if item.frame is not None and self._is_due(result.source, item.frame.captured):
            jpeg = encode_jpeg(item.frame.image, self._quality)
            image = compressed_image(at, result.source, jpeg)
            file.add(result.source, "image", "foxglove.CompressedImage", at, image)
        if isinstance(result, (Grounding, Classification)):
            file.add(result.source, "detections", "foxglove.ImageAnnotations", at, image_annotations(result))
        file.add(result.source, "result", "mmedge.Result", at, record(item))

    def _is_due(self, source: str, captured: float) -> bool:
        # Half a millisecond of tolerance, or a rate that is the camera's own would take every other frame.
        due = captured - self._frames.get(source, float("-inf")) >= self._frame_gap - 5e-4
        if due:
            if len(self._frames) >= _MOST_SOURCES:
                self._frames.clear()
            self._frames[source] = captured
        return due

    def _current(self) -> _File:
        if self._file is not None and self._is_full(self._file):
            self.close()
        if self._file is None:
            self._family.prune(coming=1)
            self._file = _File(self._family.next())
        return self._file

    def _is_full(self, file: _File) -> bool:
        too_large = self._max_bytes is not None and file.size >= self._max_bytes
        too_old = self._segment_s is not None and time.monotonic() - file.opened >= self._segment_s
        return too_large or too_old

    def close(self) -> None:
        """Finish the file with its index.

        Raises:
            SinkError: There was no room for it. The file is readable without.
        """
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.finish()
        except OSError as error:
            file.abandon()
            raise SinkError(f"{file.path} has no index: {error.strerror or error}") from error


def open_mcap(
    context: SinkContext,
    *,
    path: str,
    quality: int = 80,
    max_frame_rate: float | None = None,
    max_bytes: int | None = 500_000_000,
    segment_s: float | None = None,
    keep: int | None = 4,
) -> Mcap:
    """As a device file asks for it."""
    check_ending("mcap", path, ".mcap")
    return Mcap(
        path,
        quality=quality,
        max_frame_rate=max_frame_rate,
        max_bytes=max_bytes,
        segment_s=segment_s,
        keep=keep,
    )


def _happening(file: _File, item: StateChange | Event | PromptsChange) -> None:
    at = item.at_utc
    if isinstance(item, PromptsChange):
        file.add(None, "prompts", "mmedge.Prompts", at, record(item))
        words = f"{item.model} looks for: {', '.join(item.prompts)} (version {item.version})"
        file.add(None, "log", "foxglove.Log", at, log(at, INFO, item.model, words))
    elif isinstance(item, Event):
        file.add(item.source, "event", "mmedge.Event", at, record(item))
        words = f"{item.trigger}: {item.kind} of {item.prompt!r}, score {item.score:.3f}"
        file.add(None, "log", "foxglove.Log", at, log(at, INFO, item.source, words))
    else:
        file.add(item.source, "state", "mmedge.State", at, record(item))
        words = f"{item.previous} -> {item.state}" + (f": {item.reason}" if item.reason else "")
        level = INFO if item.state in ("connecting", "live", "ended") else WARNING
        file.add(None, "log", "foxglove.Log", at, log(at, level, item.source, words))


class _File:
    """One MCAP file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened = self.flushed = time.monotonic()
        self._out = WholeFile(path)
        self._writer = _writer_class()(self._out)
        self._writer.start(profile="", library="mmedge")
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._sources: set[str] = set()
        self._sequence = 0

    @property
    def size(self) -> int:
        return self._out.tell()

    @property
    def waiting(self) -> int:
        """Bytes that the disk did not take yet."""
        return self._out.waiting

    def add(self, source: str | None, topic: str, schema: str, at: datetime, message: dict[str, Any]) -> None:
        channel = self._channel("" if source is None else f"/{self._topic(source)}", topic, schema, source)
        self._sequence += 1
        self._writer.add_message(channel, nanoseconds(at), encode(message), time.time_ns(), self._sequence)

    def _topic(self, source: str) -> str:
        """The source's name as a topic; those beyond the 256th, as of a folder of pictures, share one."""
        if source not in self._sources and len(self._sources) >= _MOST_SOURCES:
            return "more"
        self._sources.add(source)
        return slug(source, r"\w.-")

    def _channel(self, prefix: str, topic: str, schema: str, source: str | None) -> int:
        name = f"{prefix}/{topic}"
        if name not in self._channels:
            if schema not in self._schemas:
                text = encode(SCHEMAS.get(schema, {"title": schema, **_OBJECT}))
                self._schemas[schema] = self._writer.register_schema(schema, "jsonschema", text)
            metadata = {} if source is None else {"source": source}
            self._channels[name] = self._writer.register_channel(name, "json", self._schemas[schema], metadata)
        return self._channels[name]

    def flush(self) -> None:
        self.flushed = time.monotonic()
        self._writer.flush()

    def finish(self) -> None:
        self._writer.finish()
        self._out.flush()
        self._out.close()

    def abandon(self) -> None:
        self._out.close()


def _writer_class() -> Any:
    try:
        from mcap.writer import Writer
    except ImportError as error:
        raise MissingDependencyError(f'MCAP needs its library ({error}): pip install "mmedge[mcap]"') from error
    return Writer
