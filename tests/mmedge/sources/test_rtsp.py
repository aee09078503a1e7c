from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mmedge.errors import SourceLostError, SourceOpenError
from mmedge.sources import Feed, open_source

SYSTEM_PYTHON = "/usr/bin/python3"
NEEDS = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); " + (
    "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    "assert all(map(Gst.ElementFactory.find, ('qtdemux', 'h264parse', 'rtph264pay')))"
)


def test_refused_connection() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"rtsp://me:hunter2@127.0.0.1:{taken.getsockname()[1]}/clip"
        with pytest.raises(SourceOpenError, match="Connection refused") as caught:
            open_source(url)
    assert "hunter2" not in str(caught.value)
    assert "me:***@127.0.0.1" in str(caught.value)


def test_host_that_takes_the_connection_and_never_answers(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://me:hunter2@127.0.0.1:{silent.getsockname()[1]}/clip"
        began = time.monotonic()
        with pytest.raises(SourceOpenError, match=r"gave no picture within 0\.5 s") as caught:
            open_source(url, open_timeout=0.5)
        assert time.monotonic() - began < 1.5
    assert "hunter2" not in str(caught.value) + capfd.readouterr().err


def test_host_that_answers_no_connection() -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        began = time.monotonic()
        with pytest.raises(SourceOpenError, match=r"timed out|no answer"):
            open_source(f"rtsp://127.0.0.1:{full.getsockname()[1]}/clip", open_timeout=0.5)
        assert time.monotonic() - began < 1.5


def test_name_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def silent(*arguments: object, **options: object) -> list[object]:
        answer.wait(5)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    began = time.monotonic()
    with pytest.raises(SourceOpenError, match=r"no answer within 0\.3 s"):
        open_source("rtsp://camera.local/clip", open_timeout=0.3)
    assert time.monotonic() - began < 1.5
    answer.set()


def test_unknown_host() -> None:
    with pytest.raises(SourceOpenError, match=r"rtsp://nowhere\.invalid/clip"):
        open_source("rtsp://nowhere.invalid/clip", open_timeout=5)


@pytest.mark.parametrize("url", ["rtsp://", "rtsp:///clip", "rtsp://me:sec#ret@cam/clip", "rtsp://cam:port/clip"])
def test_addresses_that_cannot_be_read(url: str) -> None:
    with pytest.raises(SourceOpenError, match="expected rtsp://") as caught:
        open_source(url)
    assert "ret@" not in str(caught.value)


@pytest.fixture
def server(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running RTSP server and the address of its clip: 10 frames a second, for more than two minutes."""
    try:
        probe = subprocess.run([SYSTEM_PYTHON, "-c", NEEDS], capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip(f"no RTSP server: there is no {SYSTEM_PYTHON}")
    if probe.returncode:
        pytest.skip(
            "no RTSP server: needs Debian's gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-good and -bad"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).parents[2] / "support" / "rtsp_server.py"
    clip = data_dir / "video" / "one-by-one-person-detection.mp4"
    command = [SYSTEM_PYTHON, str(script), str(port), str(clip)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield process, f"rtsp://me:hunter2@127.0.0.1:{port}/clip"
        process.send_signal(signal.SIGCONT)
        process.kill()


def read_on(feed: Feed) -> None:
    while feed.next() is not None:
        pass


@pytest.mark.rtsp
def test_frames_come_until_the_server_dies(server: tuple[subprocess.Popen[str], str]) -> None:
    process, url = server
    source = open_source(url)
    assert source.live
    assert source.frame_count is None
    assert source.name.startswith("rtsp://me:***@127.0.0.1")
    with Feed([source], policy="freshest", timeout=3, open_timeout=10) as feed:
        for _ in range(5):
            frame = feed.next()
            assert frame is not None
            assert frame.image.shape == (432, 768, 3)
            assert time.monotonic() - frame.captured < 1
        process.kill()
        killed = time.monotonic()
        with pytest.raises(SourceLostError, match=r"me:\*\*\*@"):
            read_on(feed)
        assert time.monotonic() - killed < 3.5


@pytest.mark.rtsp
def test_server_that_freezes_is_lost_in_time(server: tuple[subprocess.Popen[str], str]) -> None:
    process, url = server
    with Feed([url], policy="freshest", timeout=1, open_timeout=10) as feed:
        assert feed.next() is not None
        process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        with pytest.raises(SourceLostError):
            read_on(feed)
        assert time.monotonic() - stopped < 1.6
        closing = time.monotonic()
    assert time.monotonic() - closing < 2.5


@pytest.mark.rtsp
def test_frames_that_piled_up_while_opening_are_not_taken_for_new_ones(
    server: tuple[subprocess.Popen[str], str],
) -> None:
    source = open_source(server[1])
    assert source.read() is not None
    began = time.monotonic()
    for _ in range(6):
        assert source.read() is not None
    # The clip has 10 frames a second; piled up ones would come at once.
    assert time.monotonic() - began > 0.45
    source.close()


@pytest.mark.rtsp
def test_wrong_path_on_a_real_server(server: tuple[subprocess.Popen[str], str]) -> None:
    with pytest.raises(SourceOpenError, match="refused the stream; check path, user and password"):
        open_source(server[1].replace("/clip", "/nothing"))
