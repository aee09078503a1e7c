"""A real RTSP server that tests start, freeze, kill and start again on the same port."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

PYTHON = "/usr/bin/python3"
NEEDS = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); " + (
    "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    "assert all(map(Gst.ElementFactory.find, ('qtdemux', 'h264parse', 'rtph264pay')))"
)


def missing() -> str | None:
    """What this machine lacks for the server; None where it has all."""
    try:
        probe = subprocess.run([PYTHON, "-c", NEEDS], capture_output=True, timeout=60)
    except FileNotFoundError:
        return f"no RTSP server: there is no {PYTHON}"
    if probe.returncode:
        return (
            "no RTSP server: needs Debian's gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-good and -bad"
        )
    return None


class RtspServer:
    """Serves one H.264 .mp4 in its own pace; a ``with`` statement starts and ends it.

    Attributes:
        url: With user and password, which the server does not ask for.
    """

    def __init__(self, clip: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"rtsp://me:hunter2@127.0.0.1:{self.port}/clip"
        self._clip = clip
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns once it takes connections."""
        script = Path(__file__).with_name("rtsp_server.py")
        self._process = subprocess.Popen(
            [PYTHON, str(script), str(self.port), str(self._clip)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise OSError(f"the RTSP server did not start on port {self.port}")

    def freeze(self) -> None:
        """It takes no more packets and gives none, until it is killed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """It is gone without a word. Nothing happens where it is not there."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
