from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.recordings import Entry, read_cut, read_finished
from support.sink_items import START, classification, event, observation, prompts, state

from mmedge.errors import InputError, SinkError
from mmedge.sinks.mcap import Mcap
from mmedge.sinks.queued import Queued
from mmedge.sinks.records import record

START_NS = 1769860800_123456_000


def by_topic(entries: list[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.topic, []).append(entry)
    return found


def written(path: Path, *items: Any, **options: Any) -> dict[str, list[Entry]]:
    sink = Mcap(path, **options)
    for item in items:
        sink.write(item)
    sink.close()
    return by_topic(read_finished(path))


def test_every_kind_of_item_has_its_topic_and_time(tmp_path: Path) -> None:
    seen, began = observation(5), event(6)
    items = (seen, began, state("frozen", reason="same picture"), prompts(3))
    found = written(tmp_path / "out.mcap", *items)
    assert {topic: entries[0].schema for topic, entries in found.items()} == {
        "/door/image": "foxglove.CompressedImage",
        "/door/detections": "foxglove.ImageAnnotations",
        "/door/result": "mmedge.Result",
        "/door/event": "mmedge.Event",
        "/door/state": "mmedge.State",
        "/prompts": "mmedge.Prompts",
        "/log": "foxglove.Log",
    }
    for topic, item in zip(("/door/result", "/door/event", "/door/state", "/prompts"), items, strict=True):
        assert found[topic][0].value == json.loads(json.dumps(record(item)))
    assert START.timestamp() == pytest.approx(START_NS / 1e9)
    assert found["/door/result"][0].at == START_NS + 200_000_000
    assert found["/door/state"][0].at == START_NS
    assert [entry.value["message"] for entry in found["/log"]] == [
        "visitor: start of 'a person', score 0.700",
        "live -> frozen: same picture",
        "model looks for: a person, a parcel (version 3)",
    ]


def test_frames_are_jpegs_of_the_same_moment_as_their_detections(tmp_path: Path) -> None:
    seen = observation(5, size=(320, 240))
    assert seen.frame is not None
    found = written(tmp_path / "out.mcap", seen, quality=95)
    image = found["/door/image"][0].value
    assert (image["format"], image["frame_id"]) == ("jpeg", "door")
    assert image["timestamp"] == {"sec": 1769860800, "nsec": 323456000}
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(image["data"]), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (240, 320, 3)
    assert np.abs(decoded.astype(int) - seen.frame.image).mean() < 10
    marks = found["/door/detections"][0].value
    assert {mark["timestamp"]["nsec"] for mark in marks["points"] + marks["texts"]} == {323456000}


def test_detections_are_closed_outlines_with_captions(tmp_path: Path) -> None:
    seen = observation(5, track_ids=np.array([7, 9]), state="stale")
    marks = written(tmp_path / "out.mcap", seen)["/door/detections"][0].value
    x0, y0, x1, y1 = (round(float(value), 2) for value in seen.result.boxes[0])  # type: ignore[attr-defined]
    assert marks["points"][0]["type"] == 2
    assert [(point["x"], point["y"]) for point in marks["points"][0]["points"]] == [
        (x0, y0), (x1, y0), (x1, y1), (x0, y1),
    ]  # fmt: skip
    texts = [text["text"] for text in marks["texts"]]
    assert texts[0].startswith("#7 0.")
    assert texts[-1] == "STALE"
    assert marks["circles"] == []


def test_scores_of_a_classifier_are_texts_best_first(tmp_path: Path) -> None:
    marks = written(tmp_path / "out.mcap", classification())["/door/detections"][0].value
    assert [text["text"] for text in marks["texts"]] == ["0.75 a parcel", "0.25 a person"]
    assert marks["points"] == []


def test_nothing_found_clears_the_boxes(tmp_path: Path) -> None:
    marks = written(tmp_path / "out.mcap", observation(1, boxes=0))["/door/detections"][0].value
    assert marks == {"circles": [], "points": [], "texts": []}


def test_without_pixels_the_rest_goes_on(tmp_path: Path) -> None:
    found = written(tmp_path / "out.mcap", observation(1, size=None), event(2, pixels=False))
    assert set(found) == {"/door/detections", "/door/result", "/door/event", "/log"}


@pytest.mark.parametrize(("rate", "frames"), [(None, 50), (25.0, 50), (5.0, 10), (12.5, 25)])
def test_frames_are_thinned_out_and_results_are_not(rate: float | None, frames: int, tmp_path: Path) -> None:
    items = [observation(n, source) for n in range(50) for source in ("a", "b")]
    found = written(tmp_path / "out.mcap", *items, max_frame_rate=rate)
    assert [len(found[topic]) for topic in ("/a/image", "/b/image", "/a/result")] == [frames, frames, 50]


def test_sources_whose_names_make_the_same_topic_are_kept_apart(tmp_path: Path) -> None:
    names = ["rtsp://cam/1", "rtsp:/cam/1", "日本", "///"]
    found = written(tmp_path / "out.mcap", *(observation(1, name, size=None) for name in names))
    results = [topic for topic in found if topic.endswith("/result")]
    assert len(set(results)) == 4
    assert all(topic.count("/") == 2 for topic in results)
    assert "/日本/result" in results
    assert [found[topic][0].value["source"] for topic in results] == names


def test_a_folder_of_pictures_does_not_make_topics_without_end(tmp_path: Path) -> None:
    found = written(tmp_path / "out.mcap", *(observation(n, f"{n}.jpg", size=None, boxes=0) for n in range(300)))
    assert len(found["/more/result"]) == 300 - 256


def test_no_file_is_ever_written_to_again(tmp_path: Path) -> None:
    path = tmp_path / "out.mcap"
    path.write_bytes(b"someone's")
    for _ in range(2):
        sink = Mcap(path)
        sink.write(observation(1))
        sink.close()
    assert path.read_bytes() == b"someone's"
    assert sorted(os.listdir(tmp_path)) == ["out-1.mcap", "out-2.mcap", "out.mcap"]


def test_a_file_that_was_cut_anywhere_gives_all_whole_chunks_before(tmp_path: Path) -> None:
    path = tmp_path / "out.mcap"
    sink = Mcap(path)
    ends: list[tuple[int, int]] = []  # bytes in the file, and entries in them
    for n in range(10):
        sink.write(observation(n))
        sink.write(event(n))
        ends.append((path.stat().st_size, 5 * (n + 1)))
    sink.close()
    whole, entries = path.read_bytes(), read_finished(path)
    assert len(entries) == 50
    random = np.random.default_rng(0)
    cuts = [*random.integers(100, len(whole), 150).tolist(), *(size + n for size, _ in ends for n in (-1, 0, 1))]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        found, finished = read_cut(path)
        assert not finished
        assert found == entries[: len(found)]
        assert len(found) >= max((count for size, count in ends if size <= cut), default=0)


def test_without_an_item_there_is_no_file(tmp_path: Path) -> None:
    Mcap(tmp_path / "out.mcap").close()
    assert os.listdir(tmp_path) == []


def test_large_files_are_finished_and_the_oldest_deleted(tmp_path: Path) -> None:
    sink = Mcap(tmp_path / "out.mcap", max_bytes=200_000, keep=3)
    for n in range(300):
        sink.write(observation(n, size=(160, 120)))
        sink.idle()
    sink.close()
    names = sorted(os.listdir(tmp_path))
    assert len(names) == 3
    assert "out.mcap" not in names
    frames = []
    for name in sorted(names, key=lambda name: int(name[4:-5])):
        assert (tmp_path / name).stat().st_size < 300_000
        frames += [e.value["frame"] for e in read_finished(tmp_path / name) if e.topic == "/door/result"]
    assert frames == list(range(300 - len(frames), 300))


def test_old_files_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("mmedge.sinks.mcap.time.monotonic", lambda: now[0])
    sink = Mcap(tmp_path / "out.mcap", segment_s=60, keep=None)
    for n in range(4):
        now[0] = n * 30.0
        sink.write(observation(n))
    sink.close()
    assert [len(by_topic(read_finished(tmp_path / name))["/door/result"]) for name in ("out.mcap", "out-1.mcap")] == [
        2,
        2,
    ]


def test_what_waits_is_on_disk_a_second_after_the_last_item(tmp_path: Path) -> None:
    queue = Queued(Mcap(tmp_path / "out.mcap"))
    queue.put(observation(1))
    deadline = 50
    while not (found := read_cut(tmp_path / "out.mcap")[0] if (tmp_path / "out.mcap").exists() else []) and deadline:
        deadline -= 1
        queue._thread.join(0.1)
    assert [entry.topic for entry in found] == ["/door/image", "/door/detections", "/door/result"]
    assert queue.close(5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": 0}, "quality must be 1 to 100"),
        ({"max_bytes": 10}, "max_bytes must be at least 65536"),
        ({"segment_s": 0.0}, "segment_s must be at least 1"),
        ({"keep": 0}, "keep must be 1 or more"),
        ({"max_frame_rate": 0.0}, "max_frame_rate must be above 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        Mcap(tmp_path / "out.mcap", **options)


@pytest.mark.parametrize("name", ["out.bag", "nowhere/out.mcap"])
def test_names_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=name):
        Mcap(tmp_path / name)


FULL_DISK = """
import resource, sys
from pathlib import Path
from support.sink_items import event, observation
from support.recordings import read_cut, read_finished
from mmedge.errors import SinkError
from mmedge.sinks.mcap import Mcap

path = Path(sys.argv[1])
sink = Mcap(path)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
errors = 0
for number in range(60):
    try:
        sink.write(event(number) if number % 2 else observation(number))
    except SinkError as error:
        errors += 1
entries, finished = read_cut(path)
assert errors > 10 and not finished and len(entries) > 10, (errors, len(entries))
assert path.stat().st_size <= 30_000
if sys.argv[2] == "room":
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    sink.write(event(60))
    sink.close()
    numbers = [entry.value["best_frame"] for entry in read_finished(path) if entry.topic == "/door/event"]
    assert numbers == [*range(1, 60, 2), 60], numbers
else:
    try:
        sink.close()
    except SinkError as error:
        assert "has no index" in str(error)
    else:
        raise AssertionError("no error")
    assert read_cut(path)[0] == entries
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the file size as Linux does")
@pytest.mark.parametrize("then", ["room", "none"])
def test_a_full_disk_leaves_a_readable_file_and_nothing_is_lost_when_there_is_room_again(
    then: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "out.mcap"), then],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_a_disk_that_takes_nothing_is_given_up_and_a_new_file_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmedge.sinks.mcap._MOST_WAITING", 5_000)
    sink = Mcap(tmp_path / "out.mcap")
    sink.write(event(0))

    def full(file: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mmedge.sinks.files.os.write", full)
        for n in range(1, 50):
            with pytest.raises(SinkError, match="No space left"):
                sink.write(event(n))
        assert len(os.listdir(tmp_path)) <= 2
    sink.write(event(100))
    sink.close()
    assert [entry.value["id"] for entry in read_cut(tmp_path / "out.mcap")[0] if entry.topic == "/door/event"] == ["e0"]
    last = sorted(os.listdir(tmp_path), key=len)[-1]
    assert [e.value["id"] for e in read_finished(tmp_path / last) if e.topic == "/door/event"][-1] == "e100"
