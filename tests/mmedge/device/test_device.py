from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.bundles import COLORS, frame_of
from support.device import Camera, Collecting, HangingSink, wait_for

from mmedge.device.config import DeviceConfig, ModelConfig, PrivacyConfig, SourceConfig
from mmedge.device.device import Device
from mmedge.device.privacy import FILL
from mmedge.device.reading import parse_config
from mmedge.errors import ConfigError, InputError, MmedgeError, TextInputError
from mmedge.results import Result
from mmedge.sinks.sink import Observation, PromptsChange
from mmedge.sources.frame import Frame
from mmedge.streaming import SourceOptions, StateChange
from mmedge.triggers.event import Event, EventKind
from mmedge.triggers.settings import TriggerSettings

Start = Callable[[Any], Device]

TABLE = "tabletop://?width=64&height=48&fps=30"
TEXT = f"""\
[device]
name = "hall"
[models.colors]
bundle = "colors.mmedge"
prompts = ["red", "green"]
[sources.front]
url = "{TABLE}&seed=1"
[sources.back]
url = "{TABLE}&seed=2"
[triggers.blue]
prompt = "blue"
negatives = ["a thing"]
sources = ["back"]
on = 0.9
[sinks.log]
kind = "jsonl"
path = "log.jsonl"
"""


def painted(bundle: Path, camera: Camera, **parts: Any) -> DeviceConfig:
    """A device of one painted camera."""
    return DeviceConfig(
        models={"colors": ModelConfig(str(bundle), ("red", "green"))},
        sources={"front": SourceConfig(SourceOptions(camera, "front", reconnect="always"), "colors")},
        **parts,
    )


def test_results_of_every_source_reach_sinks_and_status(running: Start, folder: Path) -> None:
    device = running(TEXT)
    sink = Collecting()
    device.attach("probe", sink)
    wait_for(lambda: {one.result.source for one in sink.of(Observation)} == {"front", "back"})
    status = wait_for(lambda: (s := device.status())["sources"]["back"]["processed"] > 3 and s)
    assert device.ready
    assert (status["device"], status["pixels"]) == ("hall", True)
    assert status["models"]["colors"]["sources"] == ["front", "back"]
    assert status["models"]["colors"]["error"] is None
    front = status["sources"]["front"]
    assert (front["model"], front["state"], front["size"]) == ("colors", "live", [64, 48])
    assert front["latency_ms"] > 0
    assert front["rate"] > 1
    assert status["sinks"]["log"]["errors"] == 0
    assert status["triggers"]["blue"]["sources"] == ["back"]
    json.dumps(status)
    device.stop()
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(lines) > 5
    assert sink.closed


def test_triggers_and_their_negatives_are_asked_for(running: Start) -> None:
    device = running(TEXT)
    assert device.status()["models"]["colors"]["info"]["prompts"] == ["red", "green", "blue", "a thing"]


def test_prompts_change_before_the_first_result_that_answers_them(running: Start) -> None:
    device = running(TEXT)
    sink = Collecting()
    device.attach("probe", sink, 10_000)
    versions = {}
    for number in range(20):
        prompts = ["red", "blue"] if number % 2 else ["green"]
        versions[device.set_prompts("colors", prompts)] = prompts
        time.sleep(0.01)
    last = max(versions)
    wait_for(lambda: any(one.result.prompt_version == last for one in sink.of(Observation)))
    told: dict[int, tuple[str, ...]] = {}
    for item in list(sink.items):
        if isinstance(item, PromptsChange):
            assert item.sources == ("front", "back")
            told[item.version] = item.prompts
        elif isinstance(item, Observation) and item.result.prompt_version in versions:
            assert told[item.result.prompt_version] == getattr(item.result, "labels", None)
    for version, prompts in versions.items():
        # What a trigger compares its prompt with is asked for with it.
        assert told[version] == (*prompts, *(["a thing"] if "blue" in prompts else []))


@pytest.mark.parametrize(
    ("model", "prompts", "error", "message"),
    [
        ("colour", ["red"], InputError, "there is no model 'colour'; did you mean 'colors'"),
        ("colors", [], TextInputError, "prompt"),
        ("colors", "red", InputError, "must be a list of texts, got str"),
        ("colors", [" "], TextInputError, "prompt"),
    ],
    ids=["no-model", "none", "text", "blank"],
)
def test_prompts_that_cannot_be_used_leave_the_old_ones(
    model: str, prompts: Any, error: type[MmedgeError], message: str, running: Start
) -> None:
    device = running(TEXT)
    with pytest.raises(error, match=message):
        device.set_prompts(model, prompts)
    status = device.status()["models"]["colors"]
    assert status["info"]["prompts"] == ["red", "green", "blue", "a thing"]
    assert device.set_prompts("colors", ["green"]) > 0
    assert device.status()["models"]["colors"]["error"] is None


def test_an_event_goes_from_the_camera_to_sinks_and_history(running: Start, bundle: Path) -> None:
    camera = Camera(lambda index: frame_of("red" if 20 <= index < 40 else "green"))
    trigger = TriggerSettings("door", "red", on=0.9, off=0.5, min_duration=0.1, end_after=0.1)
    device = running(painted(bundle, camera, triggers={"door": trigger}))
    sink = Collecting()
    device.attach("probe", sink, 1000)
    wait_for(lambda: any(event.kind == "end" for event in sink.of(Event)))
    kinds = [event.kind for event in sink.of(Event)]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    [kept] = device.events()
    assert (kept.kind, kept.reason) == ("end", "below")
    assert kept.best is not None
    assert (kept.best.image == COLORS["red"]).all()
    assert device.status()["triggers"]["door"]["active"] == []


def test_taking_a_prompt_away_ends_its_event(running: Start, bundle: Path) -> None:
    trigger = TriggerSettings("door", "red", on=0.9, min_duration=0.0)
    device = running(painted(bundle, Camera(lambda index: frame_of("red")), triggers={"door": trigger}))
    wait_for(lambda: device.status()["triggers"]["door"]["active"] == ["front"])
    device.set_prompts("colors", ["green"])
    wait_for(lambda: device.events()[0].reason == "prompt")


@pytest.mark.parametrize("private", [False, True], ids=["no-pixels", "private"])
def test_no_picture_leaves_by_any_way(private: bool, running: Start, bundle: Path) -> None:
    # Something that is private is in every frame; without pixels nothing may be seen at all.
    privacy = PrivacyConfig(blur=("green",), threshold=0.5) if private else PrivacyConfig(pixels=False)
    trigger = TriggerSettings("door", "green", on=0.9, min_duration=0.0, update_every=0.05)
    camera = Camera(lambda index: frame_of("green"))
    device = running(painted(bundle, camera, privacy=privacy, triggers={"door": trigger}))
    sink = Collecting()
    device.attach("probe", sink, 1000)
    wait_for(lambda: len(sink.of(Observation)) > 10 and len(sink.of(Event)) > 1 and device.newest("front"))
    newest = device.newest("front")
    assert newest is not None
    pictures = sink.pictures() + [one.best.image for one in device.events() if one.best is not None]
    pictures += [] if newest.frame is None else [newest.frame.image]
    assert device.status()["pixels"] is private
    if private:
        assert pictures
        assert all((picture == FILL).all() for picture in pictures)
    else:
        assert not pictures


def test_private_prompts_cannot_be_taken_away(running: Start, bundle: Path) -> None:
    camera = Camera(lambda index: frame_of("green"))
    device = running(painted(bundle, camera, privacy=PrivacyConfig(blur=("green",), threshold=0.5)))
    sink = Collecting()
    device.attach("probe", sink, 1000)
    version = device.set_prompts("colors", ["red"])
    wait_for(lambda: any(one.result.prompt_version == version for one in sink.of(Observation)))
    assert device.status()["models"]["colors"]["info"]["prompts"] == ["red", "green"]
    assert all((picture == FILL).all() for picture in sink.pictures())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"privacy": PrivacyConfig(blur=("red",))}, "privacy.threshold: expected a score"),
        ({"models": {"colors": ModelConfig("", ())}}, "models.colors.prompts: expected at least one prompt"),
        ({"models": {"colors": ModelConfig("none.mmedge", ("red",))}}, "models.colors: .*none.mmedge"),
        (
            {"models": {"colors": ModelConfig("", ("red", " "))}},
            "models.colors: .*prompt",
        ),
    ],
    ids=["no-threshold", "no-prompts", "no-bundle", "blank"],
)
def test_a_device_that_cannot_work_does_not_start(parts: dict[str, Any], message: str, bundle: Path) -> None:
    before = threading.active_count()
    config = replace(painted(bundle, Camera(lambda index: frame_of("red"))), **parts)
    models = {name: replace(model, bundle=model.bundle or str(bundle)) for name, model in config.models.items()}
    device = Device(replace(config, models=models))
    with pytest.raises(MmedgeError, match=message):
        device.start()
    assert not device.ready
    device.stop()
    assert threading.active_count() <= before


def test_a_zone_needs_boxes(bundle: Path, folder: Path) -> None:
    zone = '[zones.z]\npoints = [[0, 0], [1, 0], [1, 1]]\n[triggers.z]\nprompt = "red"\non = 0.5\nzone = "z"\n'
    with pytest.raises(ConfigError, match=r"triggers\.z\.zone: expected none, because models\.colors finds no boxes"):
        Device(parse_config(TEXT + zone, folder)).start()


def test_stopping_takes_less_than_2_s_while_a_camera_and_a_sink_hang(bundle: Path) -> None:
    camera, sink = Camera(lambda index: frame_of("red"), hang_at=5), HangingSink()
    config = painted(bundle, camera)
    options = SourceOptions("tabletop://?width=64&height=48", "table", reconnect="always")
    device = Device(replace(config, sources={**config.sources, "table": SourceConfig(options, "colors")}))
    device.start()
    device.attach("hangs", sink)
    wait_for(lambda: device.status()["sources"]["front"]["processed"] >= 5)
    started = time.monotonic()
    device.stop()
    assert time.monotonic() - started < 2.4
    camera.release.set()
    sink.release.set()


def test_a_camera_that_hangs_leaves_the_others_alone(bundle: Path, running: Start) -> None:
    camera = Camera(lambda index: frame_of("red"), hang_at=5)
    config = painted(bundle, camera)
    table = SourceConfig(SourceOptions("tabletop://?width=64&height=48", "table", reconnect="always"), "colors")
    device = running(replace(config, sources={**config.sources, "table": table}))
    wait_for(lambda: device.status()["sources"]["front"]["state"] == "stale")
    before = device.status()["sources"]["table"]["processed"]
    wait_for(lambda: device.status()["sources"]["table"]["processed"] > before + 5)
    camera.release.set()


def test_a_source_that_cannot_be_used_leaves_the_others_alone(running: Start) -> None:
    # Pictures cannot play in real time, which ends a stream with an error.
    device = running(TEXT + '[sources.bad]\nurl = "*.png"\npolicy = "freshest"\nreconnect = "never"\n')
    wait_for(lambda: device.status()["models"]["colors"]["error"])
    before = device.status()["sources"]["front"]["processed"]
    wait_for(lambda: device.status()["sources"]["front"]["processed"] > before + 5)


def test_a_model_that_fails_is_started_again(running: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmedge.errors import EngineError
    from mmedge.model import Model

    failing = threading.Event()
    run = Model.__call__

    def broken(self: Model, frame: Any = None) -> Result:
        if failing.is_set():
            raise EngineError("out of memory")
        return run(self, frame)

    monkeypatch.setattr(Model, "__call__", broken)
    device = running(TEXT)
    wait_for(lambda: device.ready)
    failing.set()
    error = wait_for(lambda: device.status()["models"]["colors"]["error"])
    assert error.startswith("out of memory; tried again in ")
    failing.clear()
    wait_for(lambda: device.status()["models"]["colors"]["error"] is None)
    wait_for(lambda: device.status()["sources"]["front"]["processed"] > 0)


def test_a_sink_that_cannot_be_opened_yet_is_opened_later(
    running: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmedge.device.outlets._FIRST_WAIT_S", 0.1)
    (folder / "out").write_text("in the way of the folder")
    device = running(TEXT.replace("log.jsonl", "out/log.jsonl"))
    assert "out" in wait_for(lambda: device.status()["sinks"]["log"]["last_error"])
    (folder / "out").unlink()
    (folder / "out").mkdir()
    wait_for(lambda: device.status()["sinks"]["log"]["written"] > 3)


def test_secrets_are_in_no_status_log_or_state(
    running: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HALL_TOKEN", "tok3n-of-the-hall")
    urls = ("rtsp://me:pass-w0rd@127.0.0.1:1/x", "rtsp://127.0.0.1:1/${HALL_TOKEN}/x", "/nowhere/${HALL_TOKEN}.mp4")
    sources = "".join(f'[sources.s{n}]\nurl = "{url}"\n' for n, url in enumerate(urls))
    caplog.set_level(logging.DEBUG, "mmedge")
    device = running(TEXT + sources)
    sink = Collecting()
    device.attach("probe", sink)
    status = wait_for(lambda: (s := device.status())["sources"]["s2"]["reason"] and s["sources"]["s0"]["reason"] and s)
    assert not [line for line in caplog.messages if "pass-w0rd" in line]
    shown = json.dumps(status) + "".join(str(change.to_json()) for change in sink.of(StateChange))
    for secret in ("pass-w0rd", "tok3n-of-the-hall"):
        assert secret not in shown
    assert "***" in shown


def test_the_server_asks_for_what_there_is_not(running: Start) -> None:
    device = running(TEXT)
    with pytest.raises(InputError, match="there is no source 'frnt'; did you mean 'front'"):
        device.newest("frnt")
    with pytest.raises(InputError, match="a sink of the device has the name 'log'"):
        device.attach("log", Collecting())
    device.detach("nobody")
    first, second = Collecting(), Collecting()
    device.attach("probe", first)
    device.attach("probe", second)
    wait_for(lambda: first.closed and second.of(Observation))
    device.detach("probe")
    wait_for(lambda: second.closed)
    assert "probe" not in device.status()["sinks"]


def test_a_device_is_started_once(running: Start) -> None:
    device = running(TEXT)
    with pytest.raises(InputError, match="started once"):
        device.start()
    device.stop()
    device.stop()
    with pytest.raises(InputError, match="started once"):
        device.start()
    with pytest.raises(InputError, match="does not run"):
        device.reload(device.config)


def test_best_frames_are_bounded() -> None:
    from support.device import classification, frame_at

    from mmedge.device.history import MOST_BYTES, MOST_EVENTS, History

    history = History()
    image = np.zeros((2000, 2000, 3), np.uint8)
    for number in range(MOST_EVENTS + 50):
        frame = frame_at(image, float(number))
        result = classification(frame, {"red": 1.0})
        at = frame.captured_at
        for kind in ("start", "end"):
            event = Event(f"{number}", kind, "t", "s", "red", 0.0, at, at, 0.0, 1.0, 1.0, frame, result)
            history.add(event)
    kept = history.newest(1000)
    assert [event.id for event in kept] == [str(number) for number in range(MOST_EVENTS + 49, 49, -1)]
    assert {event.kind for event in kept} == {"end"}
    assert 0 < sum(event.best.image.nbytes for event in kept if event.best is not None) <= MOST_BYTES
    assert kept[0].best is not None
    history.forget_pixels()
    assert all(event.best is None for event in history.newest(1000))


def test_the_best_frames_of_what_is_over_are_kept_as_jpegs() -> None:
    from support.device import classification, frame_at

    from mmedge.device.history import History

    def message(id: str, kind: EventKind, frame: Frame) -> Event:
        result, at = classification(frame, {"red": 1.0}), frame.captured_at
        return Event(id, kind, "t", "s", "red", 0.0, at, at, 0.0, 1.0, 1.0, frame, result)

    history = History()
    coarse = np.random.default_rng(7).integers(0, 256, (3, 4, 3), np.uint8)
    smooth = np.asarray(cv2.resize(coarse, (640, 480)), np.uint8)
    frames = [frame_at(smooth, float(number)) for number in range(150)]
    for number, frame in enumerate(frames):
        history.add(message(str(number), "end", frame))
        history.pack()
    going_on = frame_at(smooth, 150.0)
    history.add(message("150", "update", going_on))
    history.pack()
    kept = history.newest(1000)
    assert kept[0].best is going_on
    # Raw, they would be 132 MiB.
    for event, frame in zip(kept[:0:-1], frames, strict=True):
        assert event.best is not None
        assert (event.best.index, event.best.captured_at) == (frame.index, frame.captured_at)
        assert event.best.image.shape == frame.image.shape
        assert np.abs(event.best.image.astype(int) - frame.image).mean() < 3
    history.forget_pixels()
    history.pack()
    assert all(event.best is None for event in history.newest(1000))
