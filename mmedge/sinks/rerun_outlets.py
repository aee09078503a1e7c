"""Where a Rerun recording goes: into an .rrd file, or to a viewer."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from mmedge.errors import InputError, SinkError
from mmedge.sinks.files import WholeFile

_APPLICATION = "mmedge"
_CONNECT_WAIT_S = 2.0
_END_WAIT_S = 2.0
_MOST_WAITING = 16 * 2**20
_PIECE = 2**20
_TICK_S = 60


class Outlet(Protocol):
    """An open recording."""

    stream: Any
    """Rerun's RecordingStream, to log to."""

    def flush(self, patience: float) -> None:
        """Pass on what was logged, within so many seconds.

        Raises:
            SinkError: It could not be passed on.
        """
        ...

    @property
    def lost(self) -> bool:
        """Nothing more can be passed on."""
        ...

    @property
    def size(self) -> int:
        """Bytes passed on, where that counts; 0 elsewhere."""
        ...

    def close(self) -> None:
        """End it.

        Raises:
            SinkError: The index of a file could not be written. The file is readable without.
        """
        ...


class FileOutlet:
    """Writes a new .rrd.

    Rerun writes into a pipe, and this class to the disk: Rerun's own writer does not recover from a full disk, and
    waits for ever when it is ended then.

    Raises:
        SinkError: This system has no pipes with names.
        OSError: The file cannot be made.
    """

    def __init__(self, rerun: Any, path: Path) -> None:
        if not os.path.isdir("/dev/fd"):
            raise SinkError("rerun files need a system with /dev/fd, such as Linux; give url, for a viewer")
        self._path = path
        self._file = WholeFile(path)
        self._lock = threading.Lock()
        self._pipe, into = os.pipe()
        self._thread = threading.Thread(target=self._collect, name="mmedge rerun file", daemon=True)
        # Flushed often enough: each piece that Rerun's own clock cut off besides would cost memory until the file ends.
        batches = rerun.ChunkBatcherConfig(flush_tick=_TICK_S)
        self.stream = rerun.RecordingStream(_APPLICATION, batcher_config=batches)
        self.stream.save(f"/dev/fd/{into}")
        os.close(into)
        self._thread.start()

    def _collect(self) -> None:
        data = b"\0"
        while data:
            select.select([self._pipe], [], [])
            with self._lock:
                data = os.read(self._pipe, _PIECE)
                self._file.write(data)

    def flush(self, patience: float) -> None:
        ends = time.monotonic() + patience
        try:
            self.stream.flush(timeout_sec=patience)
            while self._in_pipe() and time.monotonic() < ends:
                time.sleep(0.001)
            with self._lock:
                self._file.flush()
        except (OSError, RuntimeError, ValueError) as error:
            words = error.strerror if isinstance(error, OSError) else None
            raise SinkError(f"{self._path} cannot be written to: {words or error}") from error

    def _in_pipe(self) -> int:
        """Bytes that Rerun wrote and nobody collected yet."""
        import fcntl
        import termios

        with self._lock:
            count: int = struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, b"\0" * 4))[0]
            return count

    @property
    def lost(self) -> bool:
        return self._file.waiting > _MOST_WAITING

    @property
    def size(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self.stream.disconnect()
        self._thread.join(_END_WAIT_S)
        try:
            with self._lock:
                self._file.flush()  # Rerun's index, which comes last
        except OSError as error:
            raise SinkError(f"{self._path} has no index: {error.strerror or error}") from error
        finally:
            self._file.close()
            os.close(self._pipe)


class ViewerOutlet:
    """Sends to a viewer that runs.

    Raises:
        SinkError: It does not.
    """

    size = 0

    def __init__(self, rerun: Any, viewer: Viewer) -> None:
        viewer.check()
        self._viewer = viewer
        self.lost = False
        self.stream = rerun.RecordingStream(_APPLICATION)
        self.stream.connect_grpc(viewer.url)

    def flush(self, patience: float) -> None:
        try:
            self.stream.flush(timeout_sec=patience)
        except (RuntimeError, ValueError) as error:
            self.lost = True
            raise SinkError(f"{self._viewer.shown} takes no more data: {error}") from error

    def close(self) -> None:
        # Rerun waits without an end for a viewer that does not read; a broken connection it lets go.
        self._viewer.break_off()
        self.stream.disconnect()


class Viewer:
    """Where a viewer is.

    Args:
        url: ``rerun+http://HOST:PORT/proxy``.

    Raises:
        InputError: `url` is none.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or not port or parts.scheme not in ("rerun+http", "rerun+https") or parts.path != "/proxy":
            raise InputError("url must be like rerun+http://127.0.0.1:9876/proxy, with host and port")
        self.url = url
        self.shown = f"{parts.scheme}://{host}:{port}"
        self._place = (host, port)

    def check(self) -> None:
        """Refuse a viewer that is not there: Rerun would wait for it, and keep all that comes in memory.

        Raises:
            SinkError: Nobody answers.
        """
        try:
            socket.create_connection(self._place, _CONNECT_WAIT_S).close()
        except OSError as error:
            raise SinkError(f"no viewer at {self.shown}: {error.strerror or error}") from error

    def break_off(self) -> None:
        """Shut down this process's connections to the viewer, where the system lists them."""
        try:
            there = {info[4][:2] for info in socket.getaddrinfo(*self._place, type=socket.SOCK_STREAM)}
            names = os.listdir("/proc/self/fd")
        except OSError:
            return
        for name in names:
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    with socket.socket(fileno=os.dup(int(name))) as found:
                        if found.getpeername()[:2] in there:
                            found.shutdown(socket.SHUT_RDWR)
