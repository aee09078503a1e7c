"""The server in a thread of its own."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from types import TracebackType

from mmedge.device.status import RunningDevice
from mmedge.errors import MissingDependencyError, SinkError
from mmedge.server.settings import ServerSettings

try:
    import uvicorn
    import websockets  # noqa: F401  (uvicorn finds it by itself, and has no WebSockets without it)

    from mmedge.server.app import create_app
    from mmedge.server.connections import bounded_protocol
    from mmedge.server.live import LONGEST_MESSAGE
except ImportError as error:
    raise MissingDependencyError(
        f'the server needs a library that cannot be loaded ({error}); pip install "mmedge[serve]"'
    ) from error

_log = logging.getLogger("mmedge.server")
_START_S = 10.0
_STOP_S = 2.0
_LONGEST_HEAD = 16 * 1024


class Server:
    """The dashboard of a device, served by uvicorn; a ``with`` statement starts and stops it.

    Any thread may start and stop it; no signal handlers are touched.
    """

    def __init__(self, device: RunningDevice, settings: ServerSettings) -> None:
        self.settings = settings
        self._device = device
        self._uvicorn: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._port = settings.port

    @property
    def address(self) -> str:
        """``http://127.0.0.1:7860``, with the port that is really used."""
        host = self.settings.host
        return f"{self.settings.scheme}://{f'[{host}]' if ':' in host else host}:{self._port}"

    def start(self) -> None:
        """Listen, and return when requests are answered.

        Raises:
            SinkError: The address cannot be listened on, such as a port that is taken, or certificate and key are not
                a pair of PEM files.
        """
        if self._thread is not None:
            return
        listening = _listen(self.settings.host, self.settings.port)
        try:
            config = self._config()
        except BaseException:
            listening.close()
            raise
        self._port = listening.getsockname()[1]
        self._uvicorn = server = uvicorn.Server(config)
        run = {"target": server.run, "kwargs": {"sockets": [listening]}}
        self._thread = thread = threading.Thread(name="mmedge-server", daemon=True, **run)  # type: ignore[arg-type]
        thread.start()
        ends = time.monotonic() + _START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > ends:
                self.stop()
                listening.close()
                raise SinkError(f"the server did not start at {self.address}; the log says why")
            time.sleep(0.01)

    def stop(self) -> None:
        """Close every connection and join, within 2 s. Safe to call twice."""
        server, thread = self._uvicorn, self._thread
        if server is None or thread is None:
            return
        server.should_exit = True
        thread.join(_STOP_S - 0.3)
        server.force_exit = True
        thread.join(0.3)
        if thread.is_alive():
            _log.warning("the server does not stop; its thread is left behind")
        self._uvicorn = self._thread = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _config(self) -> uvicorn.Config:
        settings = self.settings
        _check_pair(settings.certificate, settings.key)
        return uvicorn.Config(
            create_app(self._device, settings),
            http=bounded_protocol(settings.max_connections, settings.request_timeout),
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            # Whoever sends X-Forwarded-For is not believed: limits hold for addresses that are real.
            proxy_headers=False,
            lifespan="on",
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=_LONGEST_HEAD,
            ws_max_size=LONGEST_MESSAGE,
            ws_ping_interval=10.0,
            ws_ping_timeout=10.0,
            ws_per_message_deflate=False,
        )


def serve(device: RunningDevice, settings: ServerSettings) -> Server:
    """Start the server of a device; stop it with `Server.stop`. Raises what `Server.start` raises."""
    server = Server(device, settings)
    server.start()
    return server


def _check_pair(certificate: str | None, key: str | None) -> None:
    """Load both once: uvicorn would ask the terminal for the password of a key that has one."""
    if certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise SinkError(
            f"certificate {certificate} and key {key} cannot be used together ({type(error).__name__}); expected a PEM "
            "certificate and its key, without a password"
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    where = f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # Of `localhost` the address of old: every program tries that one.
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    except OSError as error:
        raise SinkError(f"the server cannot listen on {where}: {error}; `host` must be an address here") from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        # Here already, or a second server would learn only later that the port is taken.
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise SinkError(
            f"the server cannot listen on {where}: {error.strerror}; stop what listens there, or choose another port"
        ) from error
    return listening
