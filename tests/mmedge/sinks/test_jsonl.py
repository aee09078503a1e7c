from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sink_items import classification, event, observation, prompts, state

from mmedge.errors import InputError, SinkError
from mmedge.sinks.jsonl import JsonLines


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_each_kind_of_item_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLines(path)
    seen, began = observation(3), event(1)
    for item in (seen, began, state("frozen", reason="same picture"), prompts(2, "ein Päckchen")):
        sink.write(item)
        assert path.read_bytes().endswith(b"}\n")
    sink.close()
    found = lines(path)
    assert [line["type"] for line in found] == ["result", "event", "state", "prompts"]
    assert found[0] == {"type": "result", **json.loads(json.dumps(seen.result.to_json()))}
    assert found[1] == {"type": "event", **began.to_json()}
    assert (found[2]["state"], found[2]["reason"]) == ("frozen", "same picture")
    assert found[3] == {
        "type": "prompts",
        "model": "model",
        "sources": ["door"],
        "prompts": ["ein Päckchen"],
        "version": 2,
        "at": "2026-01-31T12:00:00.123456Z",
    }
    assert "ein Päckchen" in path.read_text("utf-8")


def test_only_the_types_asked_for(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "out.jsonl", types=["event", "state"])
    for item in (observation(), event(1), state(), prompts()):
        sink.write(item)
    assert [line["type"] for line in lines(tmp_path / "out.jsonl")] == ["event", "state"]


def test_numbers_that_json_lacks_become_null_and_odd_letters_survive(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "out.jsonl")
    sink.write(classification(scores=np.array([np.nan, 0.5], np.float32)))
    sink.write(prompts(1, "lone \ud800 surrogate"))
    found = lines(tmp_path / "out.jsonl")
    assert found[0]["scores"] == [None, 0.5]
    assert found[1]["prompts"] == ["lone \ud800 surrogate"]


def test_a_second_run_appends(tmp_path: Path) -> None:
    for index in (1, 2):
        sink = JsonLines(tmp_path / "out.jsonl")
        sink.write(observation(index))
        sink.close()
    assert [line["frame"] for line in lines(tmp_path / "out.jsonl")] == [1, 2]


def test_a_file_that_was_cut_anywhere_goes_on_with_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    whole = b'{"n": 1}\n{"n": 2, "text": "\xc3\xa4"}\n'
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        sink = JsonLines(path)
        sink.write(state())
        sink.close()
        # A last line that is whole but for its end is kept.
        kept = sum(cut >= end for end in (len(b'{"n": 1}'), len(whole) - 1))
        assert [line.get("n") for line in lines(path)] == [*[1, 2][:kept], None], cut


def test_a_long_half_line_and_zeros_of_a_power_cut_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for half in (b'{"x": "' + b"a" * 200_000, b"\0" * 70_000, b'{"x": 1}' + b"\0" * 70_000):
        path.write_bytes(b'{"n": 1}\n' + half)
        JsonLines(path).close()
        assert path.read_bytes() == b'{"n": 1}\n'


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_rotation_bounds_the_total_and_loses_only_the_oldest(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLines(path, max_bytes=4096, keep=keep)
    for index in range(200):
        sink.write(observation(index))
    sink.close()
    files = [tmp_path / f"out.jsonl.{number}" for number in range(keep, 0, -1)] + [path]
    assert sorted(os.listdir(tmp_path)) == sorted(file.name for file in files)
    assert all(file.stat().st_size <= 4096 for file in files)
    frames = [line["frame"] for file in files for line in lines(file)]
    assert frames == list(range(200 - len(frames), 200))
    assert len(frames) > 5 * (keep + 1)


def test_a_line_larger_than_a_file_is_written_all_the_same(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "out.jsonl", max_bytes=4096, keep=1)
    for _ in range(3):
        sink.write(prompts(1, "x" * 5000))
    assert len(lines(tmp_path / "out.jsonl")) == 1
    assert len(lines(tmp_path / "out.jsonl.1")) == 1


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_file_that_is_taken_away_is_made_again(how: str, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLines(path)
    sink.write(observation(1))
    path.unlink() if how == "deleted" else path.rename(tmp_path / "old")
    sink.write(observation(2))
    assert [line["frame"] for line in lines(path)] == [2]


def test_two_sinks_cannot_share_a_file(tmp_path: Path) -> None:
    first = JsonLines(tmp_path / "out.jsonl")
    with pytest.raises(SinkError, match="another process or sink writes to it"):
        JsonLines(tmp_path / "out.jsonl")
    first.close()
    JsonLines(tmp_path / "out.jsonl").close()


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe", "nowhere/out.jsonl"):
        with pytest.raises(SinkError, match=f"{name} cannot be written to"):
            JsonLines(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_bytes": 100}, "max_bytes must be at least 4096"),
        ({"keep": -1}, "keep must be 0 or more"),
        ({"types": ["results"]}, "types must be a list of some of result, event, state, prompts"),
        ({"types": "event"}, "types must be a list"),
        ({"types": []}, "types must be a list"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        JsonLines(tmp_path / "out.jsonl", **options)


FULL_DISK = """
import json, resource, sys
from support.sink_items import observation
from mmedge.errors import SinkError
from mmedge.sinks.jsonl import JsonLines

path = sys.argv[1]
sink = JsonLines(path, max_bytes=None)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
errors = 0
for index in range(20):
    try:
        sink.write(observation(index))
    except SinkError as error:
        errors += 1
        assert "cannot be written to" in str(error)
lines = [json.loads(line) for line in open(path)]
assert 0 < errors < 20 and len(lines) == 20 - errors, (errors, len(lines))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
sink.write(observation(99))
frames = [json.loads(line)["frame"] for line in open(path)]
assert frames == [*range(20 - errors), 99], frames
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the file size as Linux does")
def test_a_full_disk_leaves_whole_lines_and_writing_goes_on_when_there_is_room(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "out.jsonl")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
