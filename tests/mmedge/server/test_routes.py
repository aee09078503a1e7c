from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from support.device_stand_in import DeviceStandIn
from support.serving import Client

from mmedge.errors import EngineError


def picture(data: bytes) -> npt.NDArray[Any]:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def test_status_is_the_device_status(client: Client, device: DeviceStandIn) -> None:
    got = client().get("/api/v1/status").json()
    expected = device.status()
    for moving in ("uptime_s", "sources"):
        assert got.pop(moving).keys() if moving == "sources" else got.pop(moving) >= 0
        expected.pop(moving)  # type: ignore[misc]
    assert got == expected


def test_sources(client: Client) -> None:
    app = client()
    assert list(app.get("/api/v1/sources").json()) == ["door", "yard", "desk"]
    one = app.get("/api/v1/sources/desk").json()
    assert (one["name"], one["model"], one["state"], one["dropped"]) == ("desk", "mood", "live", {"newer": 2})
    missing = app.get("/api/v1/sources/roof")
    assert missing.status_code == 404
    assert "door, yard, desk" in missing.json()["detail"]


def test_the_newest_frame_plain_drawn_and_small(client: Client, device: DeviceStandIn) -> None:
    app = client()
    seen = device.newest("door")
    assert seen is not None
    assert seen.frame is not None
    plain = app.get("/api/v1/sources/door/frame.jpg")
    assert plain.headers["content-type"] == "image/jpeg"
    assert plain.headers["x-state"] == "live"
    assert float(plain.headers["x-age-ms"]) >= 0
    assert np.abs(picture(plain.content).astype(int) - seen.frame.image).mean() < 4
    drawn = picture(app.get("/api/v1/sources/door/frame.jpg?drawn=true").content)
    assert np.abs(drawn.astype(int) - seen.result.plot(seen.frame)).mean() < 4
    # 200 is rounded up to 320; more than the frame has is the frame.
    assert picture(app.get("/api/v1/sources/door/frame.jpg?width=200").content).shape == (180, 320, 3)
    assert picture(app.get("/api/v1/sources/door/frame.jpg?width=9000").content).shape == (360, 640, 3)


def test_a_drawn_frame_shows_the_state_of_its_source_now(client: Client, device: DeviceStandIn) -> None:
    app = client()
    live = app.get("/api/v1/sources/door/frame.jpg?drawn=true")
    device.change_state("door", "frozen")
    frozen = app.get("/api/v1/sources/door/frame.jpg?drawn=true")
    assert frozen.headers["x-state"] == "frozen"
    assert frozen.content != live.content, "a banner is on it"


def test_frames_that_are_not_there(client: Client) -> None:
    fresh = DeviceStandIn()
    app = client(on=fresh)
    assert app.get("/api/v1/sources/door/frame.jpg").status_code == 404
    assert app.get("/api/v1/sources/roof/frame.jpg").status_code == 404
    assert app.get("/readyz").status_code == 503
    assert app.get("/readyz").json() == {"ready": False}


def test_no_pixels(client: Client) -> None:
    private = DeviceStandIn(pixels=False)
    private.step()
    private.happen("door")
    app = client(on=private)
    assert app.get("/api/v1/status").json()["pixels"] is False
    for path in ("sources/door", "events/e0"):
        answer = app.get(f"/api/v1/{path}/frame.jpg")
        assert (answer.status_code, answer.headers["content-type"]) == (409, "application/json")
    assert app.get("/api/v1/events").json()[0]["picture"] is False


def test_prompts(client: Client, device: DeviceStandIn) -> None:
    app, path = client(), "/api/v1/models/squares/prompts"
    assert app.get(path).json() == {"model": "squares", "prompts": ["a red square"], "version": 1}
    changed = app.put(path, json={"prompts": ["a blue square", "ein grünes Quadrat 🟩"]})
    assert changed.json() == {"model": "squares", "prompts": ["a blue square", "ein grünes Quadrat 🟩"], "version": 2}
    assert app.get(path).json() == changed.json()
    device.step()
    seen = device.newest("door")
    assert seen is not None
    assert seen.result.prompt_version == 2


@pytest.mark.parametrize(
    "body",
    [{}, {"prompts": []}, {"prompts": "a"}, {"prompts": [""]}, {"prompts": [" "]}, {"prompts": [1]}, {"prompts": None},
     {"prompts": ["x" * 1001]}, {"prompts": ["x"] * 257}, {"prompts": ["x"], "model": "y"}, ["x"], "x", None],
)  # fmt: skip
def test_prompts_that_cannot_be_used_leave_the_old_ones(client: Client, body: object) -> None:
    app, path = client(), "/api/v1/models/squares/prompts"
    answer = app.put(path, json=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)
    assert app.get(path).json()["version"] == 1


def test_prompts_of_a_model_that_is_not_there(client: Client) -> None:
    app, path = client(), "/api/v1/models/roof/prompts"
    assert app.get(path).status_code == 404
    assert app.put(path, json={"prompts": ["a"]}).status_code == 404


def test_a_model_that_fails_is_a_503_with_its_words(
    client: Client, device: DeviceStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(model: str, prompts: object) -> int:
        raise EngineError("the text stage failed")

    monkeypatch.setattr(device, "set_prompts", failing)
    answer = client().put("/api/v1/models/squares/prompts", json={"prompts": ["a"]})
    assert (answer.status_code, answer.json()["detail"]) == (503, "the text stage failed")


def test_few_changes_of_prompts_may_wait_and_the_rest_goes_on(
    client: Client, device: DeviceStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(device, "set_prompts", lambda *_: 2 if go.wait(10) else 0)
    app, codes = client(), []

    def put() -> None:
        codes.append(app.put("/api/v1/models/squares/prompts", json={"prompts": ["a"]}).status_code)

    threads = [threading.Thread(target=put) for _ in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(0.3)
    assert codes == [503] * 3
    assert app.get("/api/v1/status").status_code == 200
    go.set()
    for thread in threads:
        thread.join(5)
    assert sorted(codes) == [200] * 4 + [503] * 3


def test_events_newest_first_with_their_frames(client: Client, device: DeviceStandIn) -> None:
    for kind in ("start", "end"):
        device.happen("door", kind=kind)
    app = client()
    newest, older = app.get("/api/v1/events").json()
    assert (newest["id"], newest["kind"], newest["reason"], newest["picture"]) == ("e1", "end", "below", True)
    assert (older["id"], older["kind"], older["reason"]) == ("e0", "start", None)
    assert len(app.get("/api/v1/events?limit=1").json()) == 1
    frame = app.get("/api/v1/events/e1/frame.jpg?width=160")
    assert picture(frame.content).shape == (90, 160, 3)
    assert app.get("/api/v1/events/none/frame.jpg").status_code == 404


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "limit=-1", "limit=1e3"])
def test_limits_that_cannot_be_used(client: Client, query: str) -> None:
    assert client().get(f"/api/v1/events?{query}").status_code == 422


@pytest.mark.parametrize("width", ["15", "10001", "wide", "NaN"])
def test_widths_that_cannot_be_used(client: Client, width: str) -> None:
    assert client().get(f"/api/v1/sources/door/frame.jpg?width={width}").status_code == 422


def test_methods_that_are_not_there(client: Client) -> None:
    answer = client().post("/api/v1/status")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
