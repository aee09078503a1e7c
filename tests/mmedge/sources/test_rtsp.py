from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pytest
from support.media import settled
from support.rtsp import RtspServer, missing
from support.streaming import Listener, Slow, threads

from mmedge.errors import SourceLostError, SourceOpenError
from mmedge.sources import open_source
from mmedge.streaming import Stream, stream


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
def server(data_dir: Path) -> Iterator[RtspServer]:
    """A running RTSP server: 10 frames a second, for more than two minutes."""
    lacking = missing()
    if lacking:
        pytest.skip(lacking)
    with RtspServer(data_dir / "video" / "one-by-one-person-detection.mp4") as running:
        yield running


@pytest.fixture
def fast_server(data_dir: Path) -> Iterator[RtspServer]:
    """The same with 30 frames a second, for 40 seconds: FFmpeg wants 20 frames before it gives the first."""
    lacking = missing()
    if lacking:
        pytest.skip(lacking)
    with RtspServer(data_dir / "video" / "bottle-detection.mp4") as running:
        yield running


def read_on(results: Stream) -> None:
    for _ in results:
        pass


@pytest.mark.rtsp
def test_frames_come_until_the_server_dies(server: RtspServer) -> None:
    source = open_source(server.url)
    assert source.live
    assert source.frame_count is None
    assert source.name.startswith("rtsp://me:***@127.0.0.1")
    with stream(Slow(), source, timeout=3) as results:
        for frame, result in islice(results.with_frames(), 5):
            assert frame.image.shape == (432, 768, 3)
            assert result.age_ms < 1000
        server.kill()
        killed = time.monotonic()
        with pytest.raises(SourceLostError, match=r"me:\*\*\*@"):
            read_on(results)
        assert time.monotonic() - killed < 3.5


@pytest.mark.rtsp
def test_server_that_freezes_is_lost_in_time(server: RtspServer) -> None:
    with stream(Slow(), server.url, timeout=1, reconnect="never") as results:
        next(results)
        server.freeze()
        frozen = time.monotonic()
        with pytest.raises(SourceLostError):
            read_on(results)
        assert time.monotonic() - frozen < 2.5
        closing = time.monotonic()
    assert time.monotonic() - closing < 2.5


@pytest.mark.rtsp
def test_a_stream_is_back_soon_after_its_server_each_time(fast_server: RtspServer) -> None:
    """Killed three times, once frozen before; `benchmarks/reconnect.py` does it 20 times."""
    heard = Listener()

    def lost(times: int) -> bool:
        return settled(lambda: heard.states().count("reconnecting") == times, 5)

    with stream(Slow(), fast_server.url, timeout=1, on_state=heard) as results:
        next(results)
        for times, frozen in ((1, False), (2, True), (3, False)):
            if frozen:
                fast_server.freeze()
                assert lost(times)
            fast_server.kill()
            assert lost(times)
            time.sleep(0.7)
            assert results.reports[0].state == "reconnecting"
            fast_server.start()
            up = time.monotonic()
            result = next(result for result in results if result.captured > up)
            assert time.monotonic() - up < 3
            assert result.state == "live"
        report = results.reports[0]
    assert report.reconnects == 3
    assert "hunter2" not in f"{report} {heard.changes}"
    assert settled(lambda: threads() == [])


@pytest.mark.rtsp
def test_frames_that_piled_up_while_opening_are_not_taken_for_new_ones(server: RtspServer) -> None:
    source = open_source(server.url)
    assert source.read() is not None
    began = time.monotonic()
    for _ in range(6):
        assert source.read() is not None
    # The clip has 10 frames a second; piled up ones would come at once.
    assert time.monotonic() - began > 0.45
    source.close()


@pytest.mark.rtsp
def test_wrong_path_on_a_real_server(server: RtspServer) -> None:
    with pytest.raises(SourceOpenError, match="refused the stream; check path, user and password"):
        open_source(server.url.replace("/clip", "/nothing"))
