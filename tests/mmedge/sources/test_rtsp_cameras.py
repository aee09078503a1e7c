"""Transports, credentials and sizes, on a real server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from mmedge.errors import SourceOpenError
from mmedge.sources import Frame, Source, open_source
from mmedge.sources.transport import VARIABLE

pytestmark = pytest.mark.rtsp

SYSTEM_PYTHON = "/usr/bin/python3"
NEEDS = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); " + (
    "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    "assert all(map(Gst.ElementFactory.find, ('openh264enc', 'rtph264pay', 'jpegenc', 'rtpjpegpay')))"
)
PASSWORD = "p@ss:w/rd?#%&"
USER_INFO = f"me:{quote(PASSWORD, safe='')}@"

Server = tuple[subprocess.Popen[str], str]
Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Starts servers, and gives the process and host:port of each."""
    try:
        probe = subprocess.run([SYSTEM_PYTHON, "-c", NEEDS], capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip(f"no RTSP server: there is no {SYSTEM_PYTHON}")
    if probe.returncode:
        pytest.skip("no RTSP server: needs gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-good and -bad")
    script = Path(__file__).parents[2] / "support" / "rtsp_cameras.py"
    started: list[subprocess.Popen[str]] = []

    def start(*certificate: str) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [SYSTEM_PYTHON, str(script), str(port), "me", PASSWORD, *certificate]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        return process, f"127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve()


def read(source: Source) -> Frame:
    frame = source.read()
    assert frame is not None
    return frame


def test_cameras_over_different_transports_side_by_side(server: Server) -> None:
    # Each of the two offers one transport only, so that a stream over the wrong one cannot be opened.
    specs = [f"rtsp+{transport}://{USER_INFO}{server[1]}/{transport}" for transport in ("udp", "tcp")]
    before = os.environ.get(VARIABLE)
    with ThreadPoolExecutor() as threads:
        sources = list(threads.map(open_source, specs))
    for source, transport in zip(sources, ("udp", "tcp"), strict=True):
        assert source.name == f"rtsp+{transport}://me:***@{server[1]}/{transport}"
        assert [read(source).image.shape for _ in range(3)] == [(240, 320, 3)] * 3
        source.close()
    assert os.environ.get(VARIABLE) == before


def test_without_a_transport_it_is_what_the_camera_offers(server: Server) -> None:
    source = open_source(f"rtsp://{USER_INFO}{server[1]}/udp")
    assert read(source).image.shape == (240, 320, 3)
    source.close()


@pytest.mark.parametrize(
    ("scheme", "user_info", "path", "message"),
    [
        ("rtsp+udp", USER_INFO, "tcp", "whether UDP is offered"),
        ("rtsp+tcp", USER_INFO, "udp", "whether TCP is offered"),
        ("rtsp", "me:hunter2@", "tcp", "check path, user and password"),
        ("rtsp", "me@", "tcp", "check path, user and password"),
        ("rtsp", "", "tcp", "check path, user and password"),
    ],
)
def test_refused(
    scheme: str, user_info: str, path: str, message: str, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SourceOpenError, match=message) as caught:
        open_source(f"{scheme}://{user_info}{server[1]}/{path}")
    shown = str(caught.value) + capfd.readouterr().err
    assert not any(secret in shown for secret in (PASSWORD, quote(PASSWORD, safe=""), "hunter2"))


def test_a_camera_that_changes_its_size(server: Server) -> None:
    """The pictures of a JPEG stream follow; those of an H.264 stream are scaled by OpenCV to the size at the start."""
    with ThreadPoolExecutor() as threads:
        specs = [f"rtsp://{USER_INFO}{server[1]}/{path}" for path in ("jpeg", "h264")]
        jpeg, h264 = threads.map(open_source, specs)
    assert read(jpeg).image.shape == read(h264).image.shape == (240, 320, 3)
    server[0].send_signal(signal.SIGUSR1)
    end = time.monotonic() + 10
    while read(jpeg).image.shape != (120, 160, 3):
        assert time.monotonic() < end
    ball = lit(read(h264))
    while lit(read(h264)) < 3 * ball:
        assert time.monotonic() < end
    assert read(h264).image.shape == (240, 320, 3)
    assert read(jpeg).image.shape == (120, 160, 3)
    jpeg.close()
    h264.close()


def lit(frame: Frame) -> int:
    """Pixels of the white ball, whose size in pixels is the same in large and small pictures."""
    return int((frame.image[:, :, 1] > 128).sum())


def test_tls(serve: Serve, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    certificate.write_text(certificate.read_text() + key.read_text())
    _, address = serve(str(certificate))
    source = open_source(f"rtsps://{USER_INFO}{address}/tcp")
    assert read(source).image.shape == (240, 320, 3)
    source.close()
