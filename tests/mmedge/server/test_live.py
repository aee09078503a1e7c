from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import cv2
import numpy as np
import pytest
from support.device_stand_in import DeviceStandIn
from support.serving import TOKEN, Serve, counted, unpacked
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mmedge.server.running import Server
from mmedge.server.settings import ServerSettings


def opened(server: Server, **options: Any) -> ClientConnection:
    socket: ClientConnection = connect(
        f"{server.address.replace('http', 'ws')}/api/v1/live", open_timeout=5, compression=None, **options
    )
    return socket


def messages(socket: ClientConnection, seconds: float = 5.0) -> Iterator[tuple[dict[str, Any], bytes]]:
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        try:
            yield unpacked(socket.recv(timeout=left))
        except TimeoutError:
            return


def first(socket: ClientConnection, kind: str) -> tuple[dict[str, Any], bytes]:
    return next(pair for pair in messages(socket) if pair[0]["type"] == kind)


def ask(socket: ClientConnection, **watch: Any) -> None:
    socket.send(json.dumps({"type": "watch", **watch}))


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """A server of a device that runs."""
    device = DeviceStandIn().run()
    with Server(device, ServerSettings(port=0)) as server:
        yield server
    device.stop()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with Server(DeviceStandIn(), ServerSettings(port=0, token=TOKEN)) as server:
        yield server


def test_status_comes_at_once_and_nothing_else_unasked(serve: Serve, device: DeviceStandIn) -> None:
    with opened(serve()) as socket:
        head, _ = unpacked(socket.recv(timeout=5))
        assert head["type"] == "status"
        assert list(head["status"]["sources"]) == ["door", "yard", "desk"]
        device.step()
        again, _ = unpacked(socket.recv(timeout=5))
        assert again["type"] == "status", "the next second's"
        assert again["clock"] > head["clock"]


def test_frames_with_their_results(serve: Serve, device: DeviceStandIn) -> None:
    with opened(serve()) as socket:
        ask(socket, sources=["door"], width=320)
        time.sleep(0.2)
        device.step()
        head, jpeg = first(socket, "frame")
        seen = device.newest("door")
        assert seen is not None
        assert head["result"] == seen.result.to_json()
        assert head["size"] == [640, 360]
        assert 0 <= head["age_now_ms"] < 5000
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (180, 320, 3)


def test_states_events_and_prompts_are_told(serve: Serve, device: DeviceStandIn) -> None:
    with opened(serve()) as socket:
        socket.recv(timeout=5)
        device.change_state("door", "frozen", "the same picture for 5 s")
        device.happen("yard")
        device.set_prompts("squares", ["a blue square"])
        told = {}
        for head, _ in messages(socket):
            told[head["type"]] = head
            if {"state", "event", "prompts"} <= told.keys():
                break
        assert (told["state"]["source"], told["state"]["previous"], told["state"]["state"]) == (
            "door",
            "live",
            "frozen",
        )
        assert told["state"]["reason"] == "the same picture for 5 s"
        assert (told["event"]["source"], told["event"]["picture"]) == ("yard", True)
        assert (told["prompts"]["prompts"], told["prompts"]["version"]) == (["a blue square"], 2)


@pytest.mark.parametrize("private", [True, False], ids=["device", "client"])
def test_without_pictures_results_are_text(serve: Serve, private: bool) -> None:
    device = DeviceStandIn(pixels=not private)
    with opened(serve(on=device)) as socket:
        ask(socket, pictures=private)
        time.sleep(0.2)
        device.step()
        head, jpeg = first(socket, "result")
        assert jpeg == b""
        assert head["result"]["boxes"]


def test_rate_and_newest_only(serve: Serve, device: DeviceStandIn) -> None:
    with opened(serve()) as socket:
        ask(socket, sources=["door"], rate=5, pictures=False)
        device.run(fps=60)
        began = time.monotonic()
        frames = [head["result"]["frame"] for head, _ in messages(socket, 2.0) if head["type"] == "result"]
        seconds = time.monotonic() - began
    assert 2 <= len(frames) <= 5 * seconds + 2
    assert frames == sorted(set(frames))


def test_a_window_holds_frames_back_until_they_are_seen(serve: Serve, device: DeviceStandIn) -> None:
    with opened(serve()) as socket:
        ask(socket, sources=["door"], rate=100, window=2, pictures=False)
        device.run(fps=60)
        held = [head for head, _ in messages(socket, 1.5) if head["type"] == "result"]
        assert [head["number"] for head in held] == [1, 2]
        socket.send(json.dumps({"type": "seen", "number": 2}))
        head, _ = first(socket, "result")
        assert head["number"] == 3
        newest = device.newest("door")
        assert newest is not None
        assert newest.result.frame - head["result"]["frame"] < 30, "not one of those that were held back"


def test_one_picture_is_made_for_all_that_watch(serve: Serve, device: DeviceStandIn) -> None:
    server = serve()
    with ExitStack() as stack:
        sockets = [stack.enter_context(opened(server)) for _ in range(6)]
        for socket in sockets:
            ask(socket, sources=["door"], width=320)
        time.sleep(0.3)
        device.step()
        seen = device.newest("door")
        assert seen is not None
        for socket in sockets:
            assert any(h["type"] == "frame" and h["result"]["frame"] == seen.result.frame for h, _ in messages(socket))
        made = counted(server, "mmedge_server_pictures_total")
    assert made <= 2, "of each of the two frames one"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "nul", '"watch"', "{}", '{"type": "watch", "rate": 0}', '{"type": "watch", "rate": 1e999}',
     '{"type": "watch", "width": 4}', '{"type": "watch", "sources": "door"}', '{"type": "watch", "path": "/etc"}',
     '{"type": "seen"}', '{"type": "seen", "number": -1}', '{"type": "open"}', "[" * 10_000, "\x00"],
    ids=lambda text: text[:30] or "empty",
)  # fmt: skip
def test_a_wrong_message_is_answered(shared: Server, text: str) -> None:
    with opened(shared) as socket:
        socket.send(text)
        head, _ = first(socket, "error")
        assert head["detail"]
        assert "/etc" not in head["detail"]
        ask(socket, sources=["door"])
        first(socket, "frame")


def test_too_many_wrong_messages_end_it(serve: Serve) -> None:
    with opened(serve()) as socket:
        for _ in range(8):
            socket.send(b"\x00binary")
        with pytest.raises(ConnectionClosed) as caught:
            for _ in messages(socket):
                pass
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1008


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong-horse-battery"}, 401),
        ({"Cookie": "mmedge_session=guessed"}, 401),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}, 403),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "null"}, 403),
    ],
    ids=["none", "wrong", "cookie", "cross-origin", "null-origin"],
)
def test_who_may_not_listen(guarded: Server, headers: dict[str, str], status: int) -> None:
    with pytest.raises(InvalidStatus) as caught:
        opened(guarded, additional_headers=headers)
    assert caught.value.response.status_code == status
    with opened(guarded, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
        first(socket, "status")


def test_the_page_listens_with_its_cookie(serve: Serve) -> None:
    import httpx

    server = serve(token=TOKEN)
    with httpx.Client(base_url=server.address) as app:
        assert app.post("/api/v1/session", json={"token": TOKEN}).status_code == 204
        cookie = f"mmedge_session={app.cookies['mmedge_session']}"
    with opened(server, additional_headers={"Cookie": cookie}, origin=server.address) as socket:
        first(socket, "status")
