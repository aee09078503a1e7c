from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.sink_items import event, observation, state

from mmedge.errors import InputError, SinkError
from mmedge.sinks.opening import open_sink
from mmedge.sinks.queued import Queued
from mmedge.sinks.sink import SinkContext
from mmedge.sinks.webhook import Webhook

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A real HTTP server that keeps what it got and answers as it is told, the last answer again and again."""

    def __init__(self, *answers: int | Answer, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._answers = list(answers) or [200]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = outer._answers.pop(0) if len(outer._answers) > 1 else outer._answers[0]
                if callable(answer):
                    answer(self)
                else:
                    self.send_response(answer)
                    self.send_header("Location", "/elsewhere")
                    self.end_headers()

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/hook?key=s3cret"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.requests]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmedge.sinks.webhook._FIRST_WAIT_S", 0.02)
    monkeypatch.setattr("mmedge.sinks.webhook._LONGEST_WAIT_S", 0.04)


def test_an_event_is_posted_as_its_record() -> None:
    began = event(3)
    with Server() as server:
        sink = Webhook(server.url, device="hall")
        for item in (observation(1), state(), began, event(3, "update"), event(3, "end")):
            sink.write(item)
    assert [body["kind"] for body in server.bodies()] == ["start", "end"]
    assert server.bodies()[0] == {"type": "event", **began.to_json(), "device": "hall"}
    path, headers, _ = server.requests[0]
    assert path == "/hook?key=s3cret"
    assert headers["content-type"] == "application/json"
    assert "x-mmedge-signature" not in headers


def test_types_and_kinds() -> None:
    with Server() as server:
        sink = Webhook(server.url, types=["state", "event"], kinds=["update"])
        for item in (observation(1), state(), event(3), event(3, "update")):
            sink.write(item)
    assert [(body["type"], body.get("kind")) for body in server.bodies()] == [("state", None), ("event", "update")]


def test_the_signature_covers_time_and_body() -> None:
    with Server() as server:
        Webhook(server.url, secret="köder").write(event(3))
    _, headers, body = server.requests[0]
    stamp = headers["x-mmedge-timestamp"]
    assert abs(int(stamp) - time.time()) < 60
    expected = hmac.new("köder".encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["x-mmedge-signature"] == f"sha256={expected}"


def test_the_best_frame_on_request() -> None:
    with Server() as server:
        for picture in (True, False):
            Webhook(server.url, picture=picture).write(event(3))
        Webhook(server.url, picture=True).write(event(3, pixels=False))
    first, second, third = server.bodies()
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(first["picture"]["data"]), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (48, 64, 3)
    assert "picture" not in second
    assert "picture" not in third


def test_credentials_and_headers() -> None:
    with Server() as server:
        url = server.url.replace("://", "://me:p%40ss@")
        Webhook(url, headers={"X-Room": "hall"}).write(event(1))
    _, headers, _ = server.requests[0]
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert headers["x-room"] == "hall"


def slow(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1)


def dripping(handler: BaseHTTPRequestHandler) -> None:
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(40):
            handler.wfile.write(b"X-Drip: 1\r\n")
            handler.wfile.flush()
            time.sleep(0.05)


def hanging_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def babbling(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**12))
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(1000):
            handler.wfile.write(b"x" * 65536)


@pytest.mark.parametrize("bad", [500, 503, 429, slow, dripping, hanging_up, babbling], ids=str)
def test_what_may_get_better_is_tried_again(bad: int | Answer) -> None:
    with Server(bad, bad, 200) as server:
        Webhook(server.url, timeout=0.3).write(event(3))
        assert len(server.requests) == 3
        assert len({headers["x-mmedge-delivery"] for _, headers, _ in server.requests}) == 1


@pytest.mark.parametrize(
    ("bad", "tries", "words"),
    [
        (500, 3, "answered 500 after 3 tries"),
        (404, 1, "answered 404"),
        (301, 1, "answered 301; redirects are not followed"),
        (307, 1, "answered 307; redirects are not followed"),
        (slow, 3, "did not answer within 0.2 s after 3 tries"),
        (dripping, 3, "did not answer within 0.2 s after 3 tries"),
        (hanging_up, 3, "after 3 tries"),
        (babbling, 3, r"gave no HTTP answer \(BadStatusLine\) after 3 tries"),
    ],
    ids=str,
)
def test_what_does_not_get_better_is_an_error_without_secrets(bad: int | Answer, tries: int, words: str) -> None:
    with Server(bad) as server:
        with pytest.raises(SinkError, match=words) as caught:
            Webhook(server.url, timeout=0.2, attempts=3).write(event(3))
        assert len(server.requests) == tries
        assert f"http://127.0.0.1:{server.port} " in str(caught.value)
        assert "s3cret" not in str(caught.value)
        assert "hook" not in str(caught.value)


def test_a_huge_answer_is_not_read() -> None:
    with Server(endless) as server:
        began = time.monotonic()
        Webhook(server.url).write(event(3))
        assert time.monotonic() - began < 2


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(SinkError, match=r"cannot be reached \(Connection refused\) after 2 tries"):
            Webhook(f"http://127.0.0.1:{taken.getsockname()[1]}/", attempts=2).write(event(3))


def test_a_server_that_takes_no_connection_is_a_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            with pytest.raises(SinkError, match=r"did not answer within 0\.3 s"):
                Webhook(f"http://127.0.0.1:{full.getsockname()[1]}/", attempts=1, timeout=0.3).write(event(3))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "both.pem"), "-out", str(folder / "c")]
    subprocess.run([*command, *names], check=True, capture_output=True)
    with (folder / "both.pem").open("a") as file:
        file.write((folder / "c").read_text())
    return folder / "both.pem"


def test_certificates_are_verified(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with Server(tls=tls) as server:
        with pytest.raises(SinkError, match="has no certificate that can be trusted"):
            Webhook(server.url).write(event(3))
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        Webhook(server.url).write(event(3))
        assert len(server.requests) == 1


def test_a_queue_ends_in_time_and_gives_what_is_left_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmedge.sinks.webhook._FIRST_WAIT_S", 30.0)
    monkeypatch.setattr("mmedge.sinks.webhook._LONGEST_WAIT_S", 30.0)
    with Server(500, 200) as server:
        queue = Queued(Webhook(server.url))
        queue.put(event(1))
        while not server.requests:
            time.sleep(0.01)
        queue.put(event(2, "end"))
        began = time.monotonic()
        assert queue.close()
        assert time.monotonic() - began < 2
        assert [body["id"] for body in server.bodies()] == ["e1", "e2"]
    assert (queue.counters.written, queue.counters.errors) == (1, 1)


def test_as_a_device_file_asks_for_it() -> None:
    with Server() as server:
        options = {"url": server.url, "types": ["event", "state"], "picture": True, "secret": "x", "timeout": 3}
        sink = open_sink("webhook", options, SinkContext(device="porch", pixels=False))
        sink.write(event(1))
        sink.write(state())
    assert [body["device"] for body in server.bodies()] == ["porch", "porch"]
    assert "picture" not in server.bodies()[0]


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("ftp://host/s3cret", {}, "url must be https://HOST/"),
        ("https://", {}, "url must be https://HOST/"),
        ("http://[::1", {}, "url must be"),
        ("http://host:99999/s3cret", {}, "url must be"),
        ("http://host/s3cret\r\nX-Evil: 1", {}, "url must be"),
        ("http://host/ä", {}, "url must be in ASCII"),
        ("http://host/", {"secret": ""}, "secret must not be empty"),
        ("http://host/", {"timeout": 0}, "timeout must be seconds above 0"),
        ("http://host/", {"attempts": 0}, "attempts must be 1 to 20"),
        ("http://host/", {"kinds": ["begin"]}, "kinds must be a list of some of"),
        ("http://host/", {"types": ["events"]}, "types must be a list of some of"),
        ("http://host/", {"headers": {"X-A": "s3cret\r\nX-B: 1"}}, "the value of X-A must be printable"),
        ("http://host/", {"headers": {"Content-Length": "3"}}, "'Content-Length' is no header that can be set"),
        ("http://host/", {"headers": {"X A": "3"}}, "'X A' is no header that can be set"),
    ],
)
def test_arguments_that_cannot_be(url: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Webhook(url, **options)
    assert "s3cret" not in str(caught.value)
