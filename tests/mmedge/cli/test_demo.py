from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from support.command import ENVIRONMENT, Mmedge

from mmedge.cli.demo import PROMPTS
from mmedge.cli.score import TruthScore, overlap
from mmedge.results import Grounding
from mmedge.sources import TabletopSource, open_source
from mmedge.tabletop import matches, parse_prompt

TABLE = "tabletop://?width=160&height=160&live=0"


def test_default_prompts_are_in_the_camera_s_language() -> None:
    assert len(PROMPTS) >= 4
    for prompt in PROMPTS:
        parse_prompt(prompt)


def test_lines_and_summary(mmedge: Mmedge, built_in: Path) -> None:
    done = mmedge("demo", "--source", TABLE, "--frames", "8")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert len(lines) == 8
    assert "frame 7" in lines[7]
    assert f"{PROMPTS[0]} 0.90 at 60 40 100 120" in lines[7]
    assert "8 frames, 0 dropped" in done.err
    assert f"of {8 * len(PROMPTS)} answers were right" in done.err
    assert done.err.endswith(" %)\n")


def test_json_for_programs(mmedge: Mmedge, built_in: Path) -> None:
    done = mmedge("demo", "--source", TABLE, "--frames", "2", "--json", "--text", "a ball")
    assert [json.loads(line)["labels"] for line in done.out.splitlines()] == [["a ball"]] * 2


def test_live_camera_and_seconds(mmedge: Mmedge, built_in: Path) -> None:
    began = time.monotonic()
    done = mmedge("demo", "--source", "tabletop://?width=160&height=120&fps=20", "--seconds", "1")
    assert done.code == 0, done.err
    assert 0.9 < time.monotonic() - began < 6
    assert 15 <= len(done.out.splitlines()) <= 22


def test_other_sources_and_saving(mmedge: Mmedge, built_in: Path, tmp_path: Path, data_dir: Path) -> None:
    clip, out = data_dir / "video" / "carphone_pristine.mp4", tmp_path / "out.mp4"
    done = mmedge("demo", "--source", clip, "--text", "the red cube", "--frames", "5", "--save", out)
    assert done.code == 0, done.err
    assert open_source(out).frame_count == 5
    assert "answers were right" not in done.err


def test_source_that_is_not_there(mmedge: Mmedge, built_in: Path) -> None:
    done = mmedge("demo", "--source", "nowhere.mp4")
    assert done.code == 5
    assert "there is no 'nowhere.mp4'" in done.err


ON_A_TERMINAL = """
import sys
from pathlib import Path
import mmedge.loading
from mmedge.cli import main
built_in = Path(sys.argv[1])
mmedge.loading.built_in_bundle = lambda: built_in
sys.argv = ["mmedge", "demo", "--source", sys.argv[2], "--frames", "30"]
main()
"""


def test_table_on_a_terminal(built_in: Path) -> None:
    pty = pytest.importorskip("pty")
    environment = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL, str(built_in), "tabletop://?width=64&height=48&fps=60"]
    with subprocess.Popen(command, stdout=follower, stderr=subprocess.PIPE, text=True, env=environment) as process:
        os.close(follower)
        screen = b""
        while True:
            try:
                screen += os.read(leader, 65536)
            except OSError:
                break
        assert process.stderr is not None
        errors = process.stderr.read()
    os.close(leader)
    assert process.returncode == 0, errors
    text = screen.decode()
    assert "box in pixels" in text
    assert PROMPTS[0] in text
    assert "/s, age " in text
    assert "30 frames" in errors


def grounding(index: int, labels: list[str], boxes: Sequence[Sequence[float]], prompts: list[int]) -> Grounding:
    return Grounding(
        source="table",
        frame=index,
        captured=0.0,
        captured_at=datetime.now(timezone.utc),
        age_ms=0.0,
        latency_ms=0.0,
        labels=tuple(labels),
        scores=np.full(len(labels), 0.9, np.float32),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        prompts=np.array(prompts, np.int64),
        all_scores=np.full(len(PROMPTS), 0.5, np.float32),
    )


def test_score_of_perfect_answers_and_of_none() -> None:
    source = open_source("tabletop://?seed=5&live=0")
    assert isinstance(source, TabletopSource)
    perfect, silent = TruthScore(source, PROMPTS), TruthScore(source, PROMPTS)
    absent = 0
    for index in range(0, 20):
        source.read()
        truth = source.truth(index)
        assert truth is not None
        wanted = [(n, matches(prompt, truth)) for n, prompt in enumerate(PROMPTS)]
        hits = [(n, found[0]) for n, found in wanted if found]
        absent += sum(not found for _, found in wanted)
        boxes = [truth.objects[thing].box for _, thing in hits]
        perfect.add(grounding(index, [PROMPTS[n] for n, _ in hits], boxes, [n for n, _ in hits]))
        silent.add(grounding(index, [], [], []))
    assert (perfect.right, perfect.asked) == (20 * len(PROMPTS), 20 * len(PROMPTS))
    assert perfect.summary() == f"{perfect.asked} of {perfect.asked} answers were right (100.0 %)"
    assert silent.right == absent


def test_score_of_other_cameras_and_other_words_is_none(data_dir: Path) -> None:
    clip = open_source(data_dir / "video" / "bikes.mp4")
    assert TruthScore(clip, PROMPTS).summary() is None
    table = open_source(TABLE)
    table.read()
    score = TruthScore(table, ("a person on a bike",))
    score.add(grounding(0, [], [], []))
    assert score.summary() is None


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 2, 2], (0, 0, 2, 2), 1.0),
        ([0, 0, 2, 2], (1, 0, 3, 2), 1 / 3),
        ([0, 0, 2, 2], (2, 0, 3, 2), 0.0),
        ([0, 0, 0, 0], (0, 0, 2, 2), 0.0),
    ],
)
def test_overlap(a: list[float], b: tuple[float, ...], expected: float) -> None:
    assert overlap(a, b) == pytest.approx(expected)
