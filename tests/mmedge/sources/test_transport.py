from __future__ import annotations

import os
import threading
import time

import pytest

from mmedge.sources.transport import VARIABLE, ffmpeg_transport, with_transport


@pytest.fixture(autouse=True)
def no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "fpsprobesize;3|rtsp_transport;udp"),
        ("", "fpsprobesize;3|rtsp_transport;udp"),
        ("tls_verify;1|ca_file;ca.pem", "tls_verify;1|ca_file;ca.pem|fpsprobesize;3|rtsp_transport;udp"),
        ("rtsp_transport;tcp|max_delay;0", "max_delay;0|fpsprobesize;3|rtsp_transport;udp"),
        ("rtsp_flags;prefer_tcp|fpsprobesize;9", "fpsprobesize;9|rtsp_transport;udp"),
    ],
)
def test_options_of_the_user_stay(before: str | None, after: str) -> None:
    assert with_transport(before, "udp") == after


def test_without_a_transport_the_user_or_opencv_chooses() -> None:
    assert with_transport(None, None) == "fpsprobesize;3|rtsp_flags;prefer_tcp"
    assert with_transport("rtsp_transport;udp", None) == "rtsp_transport;udp|fpsprobesize;3"


@pytest.mark.parametrize("before", [None, "max_delay;0"])
def test_the_environment_is_as_before(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if before is not None:
        monkeypatch.setenv(VARIABLE, before)
    with ffmpeg_transport("udp", timeout=1), ffmpeg_transport("udp", timeout=1):
        assert os.environ[VARIABLE] == with_transport(before, "udp")
    assert os.environ.get(VARIABLE) == before
    with pytest.raises(ZeroDivisionError), ffmpeg_transport("tcp", timeout=1):
        raise ZeroDivisionError
    assert os.environ.get(VARIABLE) == before
    with ffmpeg_transport(None, timeout=1):
        assert os.environ[VARIABLE] == with_transport(before, None)
    assert os.environ.get(VARIABLE) == before


def test_another_transport_waits_and_gives_up() -> None:
    with ffmpeg_transport("udp", timeout=1):
        with pytest.raises(TimeoutError, match="another transport"), ffmpeg_transport(None, timeout=0.05):
            pass
        assert os.environ[VARIABLE] == with_transport(None, "udp")
    with ffmpeg_transport(None, timeout=0):
        pass


def test_those_of_one_transport_do_not_keep_another_waiting_for_ever() -> None:
    entered: list[str] = []
    first = threading.Event()

    def enter(transport: str) -> None:
        with ffmpeg_transport(transport, timeout=5):
            entered.append(transport)

    with ffmpeg_transport("tcp", timeout=1):
        threads = [threading.Thread(target=enter, args=[transport]) for transport in ("udp", "tcp")]
        for thread in threads:
            thread.start()
            first.wait(0.1)
        assert entered == []
    for thread in threads:
        thread.join(5)
    assert entered == ["udp", "tcp"]


def test_many_threads_see_their_own_transport() -> None:
    wrong = []

    def enter(transport: str | None) -> None:
        for _ in range(30):
            with ffmpeg_transport(transport, timeout=30):
                seen = os.environ.get(VARIABLE)
                time.sleep(0.0005)
                if os.environ.get(VARIABLE) != seen or seen != with_transport(None, transport):
                    wrong.append(seen)

    threads = [threading.Thread(target=enter, args=[transport]) for transport in ("udp", "tcp", None, "udp")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert VARIABLE not in os.environ
