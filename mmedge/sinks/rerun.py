"""Recordings for Rerun: in .rrd files, or in a viewer that runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from mmedge.drawing import captions, color_of
from mmedge.errors import InputError, MissingDependencyError, SinkError
from mmedge.results import Classification, Grounding, Result
from mmedge.sinks.files import Family, check_ending
from mmedge.sinks.foxglove import nanoseconds
from mmedge.sinks.jpeg import check_quality, encode_jpeg
from mmedge.sinks.rerun_outlets import FileOutlet, Outlet, Viewer, ViewerOutlet
from mmedge.sinks.sink import Item, Observation, PromptsChange, SinkContext, Watched
from mmedge.triggers.event import Event

_FLUSH_EVERY_S = 0.5
_FLUSH_WAIT_S = 2.0
_CLOSE_WAIT_S = 0.5
_AGAIN_AFTER_S = 2.0
_SMALLEST = 65536
_MOST_PIECES = 32768
"""Of a file. Rerun's library keeps 1.3 KB of memory for each until the file ends: they are its index."""


class Rerun:
    """Logs to Rerun. Below the name of each source: ``image`` with ``image/boxes``, ``scores``, ``latency_ms``,
    ``age_ms``, and as texts ``state`` and ``events``; ``prompts`` beside them. The timelines are ``captured``, the time
    of capture in UTC, and ``frame``.

    A file is written out twice a second, and is readable up to there if the process is killed. What a full disk does
    not take waits, up to 16 MiB. A viewer that is not there, or stops taking data, is an error; what comes meanwhile is
    lost, and after two seconds it is tried again.
    Rerun's library sends nothing to anybody but that viewer.

    Args:
        path: The first .rrd file; further ones, also of later runs, are ``PATH-1.rrd``, … None: give `url`.
        url: Of a viewer, ``rerun+http://127.0.0.1:9876/proxy``. None: give `path`.
        quality: Of the JPEG frames, 1 to 100.
        max_bytes: A file that is larger is finished, and the next begun; at least 65,536. None: no limit. So is one of
            32,768 pieces: each entity gets one in half a second.
        keep: How many files there may be; the oldest are deleted. None: all.
        sources: What is known of the sources, for the names of scores.

    Raises:
        InputError: An argument cannot be used.
        SinkError: `path` is no .rrd, or its folder cannot be written to.
        MissingDependencyError: Rerun's library is not installed.
    """

    kind = "rerun"

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        url: str | None = None,
        quality: int = 80,
        max_bytes: int | None = 500_000_000,
        keep: int | None = 4,
        sources: Sequence[Watched] = (),
    ) -> None:
        self._rerun = _library()
        if (path is None) == (url is None):
            raise InputError("rerun needs either path, for a file, or url, for a viewer")
        if max_bytes is not None and max_bytes < _SMALLEST:
            raise InputError(f"max_bytes must be at least {_SMALLEST}, or None for no limit, got {max_bytes}")
        self._quality = check_quality(quality)
        self._max_bytes = max_bytes
        self._viewer = None if url is None else Viewer(url)
        self._family = None if path is None else Family(path, ".rrd", keep)
        self._outlet: Outlet | None = None
        self._flushed = 0.0
        self._touched: set[tuple[str, ...]] = set()
        self._pieces = 0
        self._not_before = 0.0
        self._error = SinkError("")
        self._prompts = {watched.name: watched.prompts for watched in sources}
        self._named: dict[str, tuple[str, ...]] = {}

    def write(self, item: Item) -> None:
        """Log an item.

        Raises:
            SinkError: The viewer does not answer, or the file cannot be written to.
        """
        outlet = self._current()
        outlet.stream.reset_time()
        if isinstance(item, Observation):
            self._observation(outlet.stream, item)
        else:
            self._happening(outlet.stream, item)
        if time.monotonic() - self._flushed >= _FLUSH_EVERY_S:
            self._flush(outlet, _FLUSH_WAIT_S)

    def idle(self) -> None:
        """Pass on what waits: called when nothing came for a second."""
        if self._outlet is not None:
            self._flush(self._outlet, _FLUSH_WAIT_S)

    def close(self) -> None:
        """Finish the file, or leave the viewer.

        Raises:
            SinkError: What waited could not be passed on.
        """
        outlet, self._outlet = self._outlet, None
        if outlet is not None:
            with contextlib.closing(outlet):
                outlet.flush(_CLOSE_WAIT_S)

    def _observation(self, stream: Any, item: Observation) -> None:
        rerun, result = self._rerun, item.result
        self._at(stream, result.captured_at)
        stream.set_time("frame", sequence=result.frame)
        root = [result.source]
        if item.frame is not None:
            jpeg = encode_jpeg(item.frame.image, self._quality)
            self._log(stream, [*root, "image"], rerun.EncodedImage(contents=jpeg, media_type="image/jpeg"))
        if isinstance(result, Grounding):
            colors = [color_of(int(prompt))[::-1] for prompt in result.prompts]
            boxes = rerun.Boxes2D(
                array=result.boxes, array_format=rerun.Box2DFormat.XYXY, labels=captions(result), colors=colors
            )
            self._log(stream, [*root, "image", "boxes"], boxes)
        self._scores(stream, result)
        self._log(stream, [*root, "latency_ms"], rerun.Scalars(result.latency_ms))
        self._log(stream, [*root, "age_ms"], rerun.Scalars(result.age_ms))

    def _scores(self, stream: Any, result: Result) -> None:
        if isinstance(result, Grounding):
            scores, names = result.all_scores, self._prompts.get(result.source, ())
        elif isinstance(result, Classification):
            scores, names = result.scores, result.labels
        else:
            return
        entity = [result.source, "scores"]
        if len(names) == len(scores) and self._named.get(result.source) != names:
            self._named[result.source] = names
            self._log(stream, entity, self._rerun.SeriesLines(names=list(names)), static=True)
        self._log(stream, entity, self._rerun.Scalars(scores.astype(np.float64)))

    def _happening(self, stream: Any, item: Any) -> None:
        self._at(stream, item.at_utc)
        level = "INFO"
        if isinstance(item, PromptsChange):
            self._prompts.update(dict.fromkeys(item.sources, item.prompts))
            entity, words = ["prompts"], f"{item.model}, version {item.version}: {', '.join(item.prompts)}"
        elif isinstance(item, Event):
            entity = [item.source, "events"]
            words = f"{item.trigger}: {item.kind} of {item.prompt!r}, score {item.score:.3f}"
        else:
            entity = [item.source, "state"]
            words = item.state if item.reason is None else f"{item.state}: {item.reason}"
            level = "INFO" if item.state in ("connecting", "live", "ended") else "WARN"
        self._log(stream, entity, self._rerun.TextLog(words, level=level))

    def _log(self, stream: Any, entity: list[str], what: Any, *, static: bool = False) -> None:
        self._touched.add(tuple(entity))
        stream.log(entity, what, static=static)

    def _at(self, stream: Any, moment: datetime) -> None:
        stream.set_time("captured", timestamp=np.datetime64(nanoseconds(moment), "ns"))

    def _current(self) -> Outlet:
        if self._outlet is not None and self._is_full(self._outlet):
            self.close()
        if self._outlet is None:
            if time.monotonic() < self._not_before:
                raise self._error
            self._not_before = time.monotonic() + _AGAIN_AFTER_S
            try:
                self._outlet = self._open()
            except SinkError as error:
                self._error = error
                raise
            self._flushed, self._not_before = time.monotonic(), 0.0
            self._pieces = 0
            self._touched.clear()
            self._named.clear()
        return self._outlet

    def _is_full(self, outlet: Outlet) -> bool:
        too_large = self._max_bytes is not None and outlet.size >= self._max_bytes
        return too_large or (self._family is not None and self._pieces >= _MOST_PIECES)

    def _open(self) -> Outlet:
        if self._family is None:
            return ViewerOutlet(self._rerun, cast(Viewer, self._viewer))
        self._family.prune(coming=1)
        path = self._family.next()
        try:
            return FileOutlet(self._rerun, path)
        except OSError as error:
            raise SinkError(f"{path} cannot be written to: {error.strerror or error}") from error

    def _flush(self, outlet: Outlet, patience: float) -> None:
        self._flushed = time.monotonic()
        # What is logged to an entity between two flushes is one piece of the file.
        self._pieces += len(self._touched)
        self._touched.clear()
        try:
            outlet.flush(patience)
        except SinkError as error:
            if outlet.lost:
                self._outlet, self._error = None, error
                self._not_before = time.monotonic() + _AGAIN_AFTER_S
                with contextlib.suppress(SinkError):
                    outlet.close()
            raise


def open_rerun(
    context: SinkContext,
    *,
    path: str | None = None,
    url: str | None = None,
    quality: int = 80,
    max_bytes: int | None = 500_000_000,
    keep: int | None = 4,
) -> Rerun:
    """As a device file asks for it."""
    if path is not None:
        check_ending("rerun", path, ".rrd")
    return Rerun(path, url=url, quality=quality, max_bytes=max_bytes, keep=keep, sources=context.sources)


def _library() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise MissingDependencyError(f'Rerun needs its library ({error}): pip install "mmedge[rerun]"') from error
    return rerun
