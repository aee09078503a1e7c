from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from support.sink_items import classification, event, observation, prompts, state

from mmedge.errors import InputError, SinkError
from mmedge.sinks.queued import Queued
from mmedge.sinks.rerun import Rerun
from mmedge.sinks.sink import Watched

pytest.importorskip("rerun.chunk")

START_NS = 1769860800_123456_000


class Table:
    """What one entity of a recording holds, rows in the order of capture."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches = batches

    def column(self, name: str) -> list[Any]:
        rows: list[tuple[int, Any]] = []
        for batch in self._batches:
            if name in batch.schema.names:
                times = batch.column("captured").cast("int64").to_pylist() if "captured" in batch.schema.names else [0]
                rows += zip(times, batch.column(name).to_pylist(), strict=True)
        return [value for _, value in sorted(rows, key=lambda row: row[0])]

    def times(self) -> list[int]:
        return sorted(t for batch in self._batches for t in batch.column("captured").cast("int64").to_pylist())


def tables(path: Path) -> dict[str, Table]:
    """A recording by Rerun's own reader."""
    from rerun.chunk import RrdReader

    found: dict[str, list[Any]] = {}
    for chunk in RrdReader(path).stream():
        found.setdefault(chunk.entity_path, []).append(chunk.to_record_batch())
    return {entity: Table(batches) for entity, batches in found.items()}


def test_a_file_holds_frames_boxes_scores_and_texts(tmp_path: Path) -> None:
    sink = Rerun(tmp_path / "out.rrd", sources=[Watched("door", "model", ("a cat", "a dog"))])
    seen = [observation(n) for n in range(5)]
    for item in (*seen, state(reason="same picture"), event(2), prompts(3)):
        sink.write(item)
    sink.close()
    found = tables(tmp_path / "out.rrd")
    image = found["/door/image"]
    assert image.times() == [START_NS + n * 40_000_000 for n in range(5)]
    assert image.column("frame") == [0, 1, 2, 3, 4]
    blob = np.array(image.column("EncodedImage:blob")[2][0], np.uint8)
    assert seen[2].frame is not None
    assert np.abs(cv2.imdecode(blob, cv2.IMREAD_COLOR).astype(int) - seen[2].frame.image).mean() < 10
    centers = found["/door/image/boxes"].column("Boxes2D:centers")
    boxes = seen[2].result.boxes  # type: ignore[attr-defined]
    np.testing.assert_allclose(centers[2], (boxes[:, :2] + boxes[:, 2:]) / 2, rtol=1e-5)
    assert found["/door/image/boxes"].column("Boxes2D:labels")[0][0].endswith("label 0")
    np.testing.assert_allclose(found["/door/scores"].column("Scalars:scalars"), [[0.9, 0.4]] * 5, rtol=1e-6)
    assert found["/door/scores"].column("SeriesLines:names") == [["a cat", "a dog"]]
    assert found["/door/latency_ms"].column("Scalars:scalars") == [[8.25]] * 5
    assert found["/door/state"].column("TextLog:text") == [["frozen: same picture"]]
    assert found["/door/state"].column("TextLog:level") == [["WARN"]]
    assert found["/door/events"].column("TextLog:text") == [["visitor: start of 'a person', score 0.700"]]
    assert found["/prompts"].column("TextLog:text") == [["model, version 3: a person, a parcel"]]


def test_without_pixels_the_rest_goes_on_and_scores_have_their_labels(tmp_path: Path) -> None:
    sink = Rerun(tmp_path / "out.rrd")
    sink.write(classification(1))
    sink.close()
    found = tables(tmp_path / "out.rrd")
    assert "/door/image" not in found
    assert found["/door/scores"].column("SeriesLines:names") == [["a person", "a parcel"]]


def test_a_source_may_have_any_name(tmp_path: Path) -> None:
    sink = Rerun(tmp_path / "out.rrd")
    sink.write(observation(1, "rtsp://cam/1 é"))
    sink.close()
    assert any("rtsp" in entity and entity.endswith("/image") for entity in tables(tmp_path / "out.rrd"))


def test_large_files_are_finished_and_the_oldest_deleted(tmp_path: Path) -> None:
    sink = Rerun(tmp_path / "out.rrd", max_bytes=150_000, keep=2)
    for n in range(120):
        sink.write(observation(n, size=(160, 120)))
        sink.idle()
    sink.close()
    names = sorted(os.listdir(tmp_path), key=lambda name: int(name[4:-4]))
    assert len(names) == 2
    frames = [frame for name in names for frame in tables(tmp_path / name)["/door/age_ms"].column("frame")]
    assert frames == list(range(120 - len(frames), 120))
    assert len(frames) > 10


def test_a_file_of_many_pieces_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmedge.sinks.rerun._MOST_PIECES", 100)
    sink = Rerun(tmp_path / "out.rrd", max_bytes=None, keep=None)
    for n in range(60):
        sink.write(observation(n, size=(32, 24)))
        sink.idle()
    sink.close()
    names = sorted(os.listdir(tmp_path))
    assert 3 <= len(names) <= 5
    frames = [frame for name in names for frame in tables(tmp_path / name)["/door/age_ms"].column("frame")]
    assert sorted(frames) == list(range(60))


KILLED = """
import os, sys
from support.sink_items import observation
from mmedge.sinks.rerun import Rerun
sink = Rerun(sys.argv[1])
for n in range(50):
    sink.write(observation(n))
sink.idle()
os.kill(os.getpid(), 9)
"""

VIEWER = """
import sys, time, rerun
stream = rerun.RecordingStream("viewer")
stream.serve_grpc(grpc_port=int(sys.argv[1]), server_memory_limit="50MB")
print("ready", flush=True)
time.sleep(120)
"""

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


FULL_DISK = """
import resource, sys
from support.sink_items import observation
from mmedge.errors import SinkError
from mmedge.sinks.rerun import Rerun
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
sink = Rerun(sys.argv[1])
errors = 0
for n in range(40):
    sink.write(observation(n))
    try:
        sink.idle()
    except SinkError as error:
        errors += 1
        assert "File too large" in str(error)
assert errors > 10
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
sink.close()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the file size as Linux does")
def test_a_full_disk_is_an_error_and_nothing_is_lost_when_there_is_room_again(tmp_path: Path) -> None:
    path = tmp_path / "out.rrd"
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert tables(path)["/door/age_ms"].column("frame") == list(range(40))


@pytest.mark.filterwarnings("ignore:RRD file has no footer")
def test_a_disk_that_takes_nothing_is_given_up_and_a_new_file_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmedge.sinks.rerun._AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr("mmedge.sinks.rerun_outlets._MOST_WAITING", 100_000)
    before = threading.active_count()
    sink = Rerun(tmp_path / "out.rrd")
    sink.write(observation(0))
    sink.idle()

    def full(file: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mmedge.sinks.files.os.write", full)
        for n in range(1, 100):
            sink.write(observation(n, size=(160, 120)))
            with contextlib.suppress(SinkError):
                sink.idle()
    sink.write(observation(100))
    sink.close()
    assert tables(tmp_path / "out.rrd")["/door/age_ms"].column("frame") == [0]
    last = max(tmp_path.iterdir(), key=lambda path: len(path.name))
    assert tables(last)["/door/age_ms"].column("frame")[-1] == 100
    assert len(os.listdir(tmp_path)) == 2
    assert threading.active_count() == before


def test_a_killed_process_leaves_a_readable_file(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out.rrd")], env=ENVIRONMENT, timeout=60)
    assert done.returncode == -9
    with pytest.warns(Warning, match="no footer"):
        assert tables(tmp_path / "out.rrd")["/door/age_ms"].column("frame") == list(range(50))


@contextlib.contextmanager
def viewer(port: int) -> Iterator[subprocess.Popen[str]]:
    """Rerun's own server, which a viewer is fed from."""
    command = [sys.executable, "-c", VIEWER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stops a process, and lists connections as Linux does")
def test_a_viewer_that_is_absent_or_stops_reading_is_an_error_and_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mmedge.sinks.rerun._AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr("mmedge.sinks.rerun._FLUSH_WAIT_S", 0.5)
    port = free_port()
    sink = Rerun(url=f"rerun+http://127.0.0.1:{port}/proxy")
    with pytest.raises(SinkError, match="no viewer at"):
        sink.write(observation(0))
    with viewer(port) as process:
        before = process_memory(process.pid)
        for n in range(40):
            sink.write(observation(n, size=(640, 480)))
        sink.idle()
        assert process_memory(process.pid) > before
        process.send_signal(signal.SIGSTOP)
        queue = Queued(sink)
        for n in range(40):
            queue.put(observation(n, size=(640, 480)))
        deadline = time.monotonic() + 20
        while not queue.counters.errors and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "takes no more data" in str(queue.counters.last_error)
        began = time.monotonic()
        assert queue.close(5)
        assert time.monotonic() - began < 5


def process_memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either path, for a file, or url"),
        ({"path": "a.rrd", "url": "rerun+http://h:1/proxy"}, "either path, for a file, or url"),
        ({"url": "http://h:1/proxy"}, "url must be like rerun"),
        ({"url": "rerun+http://h/proxy"}, "url must be like rerun"),
        ({"url": "rerun+http://h:1/"}, "url must be like rerun"),
        ({"url": "rerun+http://h:x/proxy"}, "url must be like rerun"),
        ({"path": "a.rrd", "quality": 101}, "quality must be 1 to 100"),
        ({"path": "a.rrd", "max_bytes": 1}, "max_bytes must be at least"),
        ({"path": "a.rrd", "keep": 0}, "keep must be 1 or more"),
    ],
)
def test_arguments_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Rerun(**options)
