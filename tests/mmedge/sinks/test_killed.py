"""``kill -9`` at random moments: what was written before it is there and can be read.

A few kills run here; ``MMEDGE_KILLS=50`` sets how many.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import pytest
from support.endless_sinks import EVENT_EVERY, write_endlessly
from support.recordings import read_cut, read_finished

KILLS = int(os.environ.get("MMEDGE_KILLS", "6"))


def killed_at_random(folder: Path, kills: int, seed: int) -> list[int]:
    """Let a process write, kill it, start the next; returns the numbers that both sinks took."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.endless_sinks"])
    moments = random.Random(seed)
    taken: list[int] = []
    for run in range(kills):
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=write_endlessly, args=(folder, run * 1_000_000 + 1, sending))
        process.start()
        sending.close()
        assert receiving.poll(30)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.join(10)
        assert process.exitcode == -9
        try:
            while True:
                taken.append(receiving.recv())
        except EOFError:
            pass
    return taken


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kills as POSIX does, and forks to start quickly")
def test_json_lines_and_mcap_files_stay_readable_up_to_the_last_whole_record(tmp_path: Path) -> None:
    taken = killed_at_random(tmp_path, KILLS, seed=5)
    assert len({number // 1_000_000 for number in taken}) == KILLS
    check_lines(tmp_path, taken)
    check_recordings(tmp_path, taken)


def check_lines(folder: Path, taken: list[int]) -> None:
    """Every line that a sink took is there once, in order; the one that was under way may be there, too."""
    files = sorted(folder.glob("out.jsonl*"), key=lambda path: int(path.suffix[1:].replace("jsonl", "0")), reverse=True)
    found = []
    for path in files:
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        assert len(text) - len(whole) < 60_000
        assert text == whole or path == files[-1], "only the file that the last kill hit may end within a line"
        for line in whole.splitlines():
            value = json.loads(line)
            found.append(value["frame"] if value["type"] == "result" else int(value["id"][1:]))
    assert found == sorted(set(found))
    assert set(taken) <= set(found)
    assert len(found) - len(taken) <= KILLS


def check_recordings(folder: Path, taken: list[int]) -> None:
    """Every file can be read to its end or to where the kill came, and all up to a run's last event is there."""
    found: set[int] = set()
    unfinished = 0
    for path in sorted(folder.glob("out*.mcap")):
        entries, finished = read_cut(path)
        unfinished += not finished
        if finished:
            assert read_finished(path) == entries
        numbers = [
            entry.value["frame"] if entry.topic.endswith("result") else int(entry.value["id"][1:])
            for entry in entries
            if entry.topic in ("/door/result", "/door/event")
        ]
        assert numbers == sorted(set(numbers)), path
        found.update(numbers)
    assert 0 < unfinished <= KILLS
    for run in {number // 1_000_000 for number in taken}:
        of_run = [number for number in taken if number // 1_000_000 == run]
        events = [number for number in of_run if number % EVENT_EVERY == 0]
        safe = {number for number in of_run if events and number <= events[-1]}
        assert safe <= found, f"run {run}"
