"""The command as a user starts it: a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundles import write_bundle
from support.command import ENVIRONMENT
from support.media import write_video

Process = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def mmedge(tmp_path: Path) -> Process:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mmedge", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path, timeout=60)

    return run


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    return str(write_bundle(tmp_path / "colour.mmedge"))


def test_success(mmedge: Process, bundle: str, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 5)
    done = mmedge("run", bundle, "--source", str(clip), "--text", "red", "--text", "blue")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["frame"] for line in lines] == list(range(5))
    assert lines[0]["labels"] == ["red", "blue"]
    assert set(lines[0]) >= {
        "source",
        "frame",
        "captured_at",
        "age_ms",
        "dropped",
        "state",
        "prompt_version",
        "latency_ms",
    }
    assert "5 frames, 0 dropped" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "{bundle}"], 2, "--source"),
        (["run", "{bundle}", "--source", "tabletop://"], 2, "needs at least one prompt"),
        (["run", "{bundle}", "--source", "0", "--text", "red", "--policy", "latest"], 2, "--policy must be one of"),
        (["nonsense"], 2, "nonsense"),
        (["run", "none.mmedge", "--source", "tabletop://", "--text", "red"], 3, "error: "),
        (["info", "none.mmedge"], 3, "error: "),
        (["run", "{bundle}", "--source", "tabletop://", "--text", ""], 4, "error: "),
        (
            ["run", "{bundle}", "--source", "tabletop://", "--text", "red", "--conf", "0.5"],
            4,
            "error: threshold is for",
        ),
        (
            ["run", "{bundle}", "--source", "nowhere.mp4", "--text", "red"],
            5,
            "error: there is no 'nowhere.mp4'; a source is",
        ),
        (["run", "{bundle}", "--source", "rtsp://a:pw123@127.0.0.1:1/x", "--text", "red"], 5, "a:***@127.0.0.1:1"),
        (
            ["run", "{bundle}", "--source", "tabletop://", "--text", "red", "--engine", "warp"],
            6,
            "error: engine must be",
        ),
        (["run", "{bundle}", "--source", "tabletop://", "--text", "red", "--save", "out.avi"], 8, "ends in .mp4"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else str(value)[:20],
)
def test_failures(arguments: list[str], code: int, message: str, mmedge: Process, bundle: str) -> None:
    done = mmedge(*(argument.format(bundle=bundle) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "pw123" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_trace_and_keeps_the_code(mmedge: Process, bundle: str) -> None:
    done = mmedge("--debug", "run", bundle, "--source", "nowhere.mp4", "--text", "red")
    assert done.returncode == 5
    assert "Traceback" in done.stderr
    assert "error: there is no 'nowhere.mp4'" in done.stderr


def test_a_reader_that_goes_away_ends_the_command_quietly(bundle: str) -> None:
    command = [sys.executable, "-m", "mmedge", "run", bundle, "--source", "tabletop://?live=0&width=64&height=48"]
    with subprocess.Popen(
        [*command, "--text", "red"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["frame"] == 0
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(20) == 0
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_interrupt_completes_the_video_and_prints_the_summary(how: signal.Signals, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    command = [
        sys.executable,
        "-m",
        "mmedge",
        "run",
        bundle,
        "--source",
        "tabletop://?width=64&height=48",
        "--text",
        "red",
    ]
    with subprocess.Popen(
        [*command, "--save", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        # Tests that were started in the background ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        interrupted = time.monotonic()
        process.send_signal(how)
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - interrupted < 5
    assert process.returncode == 130
    assert "frames, " in errors
    assert "Traceback" not in errors
    assert out.stat().st_size > 0


def test_defects_say_how_to_learn_more(mmedge: Process, bundle: str, tmp_path: Path) -> None:
    # A module that shadows one of ours and fails is as unexpected as it gets.
    (tmp_path / "cv2.py").write_text("raise RuntimeError('shadow')")
    done = mmedge("run", bundle, "--source", "tabletop://", "--text", "red")
    assert done.returncode == 70
    assert "unexpected RuntimeError: shadow" in done.stderr
    assert "mmedge --debug" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in mmedge("--debug", "run", bundle, "--source", "tabletop://", "--text", "red").stderr


def test_help_is_fast_and_tells_the_exit_codes(mmedge: Process) -> None:
    mmedge("--help")
    fastest = min(_seconds(mmedge) for _ in range(3))
    assert fastest < 0.6
    done = mmedge("--help")
    assert done.returncode == 0
    for words in ("demo", "run", "info", "verify", "doctor", "export", "Exit codes", "130 interrupted"):
        assert words in " ".join(done.stdout.split())


def _seconds(mmedge: Process) -> float:
    began = time.monotonic()
    mmedge("--help")
    return time.monotonic() - began


@pytest.mark.parametrize("verb", ["run", "demo", "info", "verify", "doctor", "export"])
def test_help_of_a_verb_imports_nothing_heavy(verb: str, tmp_path: Path) -> None:
    program = """
import sys
from mmedge.cli import main
sys.argv = ["mmedge", sys.argv[1], "--help"]
try:
    main()
except SystemExit:
    print("LOADED", sorted({"numpy", "cv2", "onnxruntime", "torch", "rich.live"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, verb], capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_version(mmedge: Process) -> None:
    done = mmedge("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("mmedge ")
