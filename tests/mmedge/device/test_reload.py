from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.bundles import COLOR_STAGES, color_goldens, frame_of, write_bundle
from support.device import Camera, Collecting, wait_for

from mmedge.device.config import DeviceConfig, ModelConfig, PrivacyConfig, SourceConfig
from mmedge.device.device import Device
from mmedge.device.parts import load_model
from mmedge.device.reading import parse_config
from mmedge.errors import MmedgeError
from mmedge.sinks.sink import Observation
from mmedge.streaming import SourceOptions, StateChange
from mmedge.triggers.event import Event
from mmedge.triggers.settings import TriggerSettings

Start = Callable[[Any], Device]

TABLE = "tabletop://?width=64&height=48&fps=30"
FRONT = f'[sources.front]\nurl = "{TABLE}&seed=1"\n'
BACK = f'[sources.back]\nurl = "{TABLE}&seed=2"\n'
TEXT = f"""\
[models.colors]
bundle = "colors.mmedge"
prompts = ["red", "green"]
{FRONT}{BACK}
[sinks.log]
kind = "jsonl"
path = "log.jsonl"
"""


def goes_on(device: Device, sink: Collecting, source: str) -> None:
    """The source gives further results, and was not opened again since the sink was attached."""
    seen = len(sink.items)
    wait_for(lambda: sum(one.result.source == source for one in sink.items[seen:] if isinstance(one, Observation)) > 3)
    changes = [change for change in sink.of(StateChange) if change.source == source]
    # A busy machine may make a camera stale for a moment.
    assert {change.state for change in changes} <= {"live", "stale"}
    assert "connecting" not in {change.previous for change in changes}
    frames = [one.result.frame for one in sink.of(Observation) if one.result.source == source]
    assert frames == sorted(frames)
    assert device.status()["sources"][source]["reconnects"] == 0


def is_settled(source: dict[str, Any]) -> bool:
    return bool(source["state"] == "live" and source["state_s"] > 0.4)


def watched(device: Device) -> Collecting:
    """A sink that is attached when every source has been live for a while, so that it is told nothing of before."""
    wait_for(lambda: all(is_settled(source) for source in device.status()["sources"].values()))
    sink = Collecting()
    device.attach("probe", sink, 10_000)
    return sink


NEW = '[models.new]\nbundle = "colors.mmedge"\nprompts = ["red"]\n'

CHANGES = {
    "nothing": (TEXT, ("front", "back")),
    "prompts": (TEXT.replace('"green"', '"blue"'), ("front", "back")),
    "trigger": (TEXT + '[triggers.t]\nprompt = "blue"\non = 0.5\n', ("front", "back")),
    "sinks": (TEXT.replace("log.jsonl", "other.jsonl"), ("front", "back")),
    "privacy": (TEXT + "[privacy]\npixels = false\n", ("front", "back")),
    "name": (TEXT + '[device]\nname = "other"\n', ("front", "back")),
    "another-source": (TEXT + f'[sources.third]\nurl = "{TABLE}&seed=3"\n', ("front", "back", "third")),
    "source-gone": (TEXT.replace(BACK, ""), ("front",)),
    "source-changed": (TEXT.replace("seed=2", "seed=9"), ("front", "back")),
    "source-with-errors": (
        TEXT + f'[sources.third]\nurl = "{TABLE}"\nreconnect = "never"\n',
        ("front", "back", "third"),
    ),
    "another-model": (
        TEXT.replace(FRONT, FRONT + 'model = "colors"\n').replace(BACK, BACK + 'model = "colors"\n')
        + '[models.more]\nprompts = ["blue"]\nbundle = "colors.mmedge"\n'
        + f'[sources.third]\nurl = "{TABLE}"\nmodel = "more"\n',
        ("front", "back", "third"),
    ),
}


@pytest.mark.parametrize(("text", "sources"), CHANGES.values(), ids=list(CHANGES))
def test_a_camera_that_is_not_changed_is_not_opened_again(
    text: str, sources: tuple[str, ...], running: Start, folder: Path
) -> None:
    device = running(TEXT)
    sink = watched(device)
    device.reload(parse_config(text, folder))
    goes_on(device, sink, "front")
    status = device.status()
    assert tuple(status["sources"]) == sources
    assert all(model["error"] is None for model in status["models"].values())
    for source in sources:
        wait_for(partial(lambda name: device.status()["sources"][name]["processed"] > 2, source))
    assert threading.active_count() < 40


def test_what_is_changed_takes_effect(running: Start, folder: Path) -> None:
    device = running(TEXT)
    sink = watched(device)
    text = TEXT.replace('"green"', '"blue"').replace("log.jsonl", "other.jsonl").replace(BACK, "")
    device.reload(parse_config(text + '[triggers.t]\nprompt = "a thing"\non = 0.0\nmin_duration = 0\n', folder))
    assert device.status()["models"]["colors"]["info"]["prompts"] == ["red", "blue", "a thing"]
    [event] = wait_for(lambda: sink.of(Event)[:1])
    assert (event.trigger, event.source, event.prompt) == ("t", "front", "a thing")
    size = (folder / "log.jsonl").stat().st_size
    wait_for(lambda: (folder / "other.jsonl").exists() and (folder / "other.jsonl").stat().st_size > 1000)
    assert (folder / "log.jsonl").stat().st_size == size
    count = len([one for one in sink.of(Observation) if one.result.source == "back"])
    wait_for(lambda: len(sink.of(Observation)) > 50)
    assert len([one for one in sink.of(Observation) if one.result.source == "back"]) <= count + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("colors.mmedge", "broken.mmedge"),
            "broken",
        ),
        (lambda text: text + '[models.new]\nbundle = "broken.mmedge"\nprompts = ["red"]\n', "models.new"),
        (lambda text: text.replace("colors.mmedge", "wrong.mmedge"), "models.colors"),
        (lambda text: text + '[sinks.video]\nkind = "video"\npath = "v.mp4"\nsource = "nobody"\n', "sinks.video"),
        (lambda text: text + '[privacy]\nblur = ["a thing"]\n', "privacy.threshold"),
    ],
    ids=["broken-bundle", "new-model-broken", "goldens-differ", "sink", "privacy"],
)
def test_after_an_error_the_old_configuration_goes_on_as_a_whole(
    change: Callable[[str], str], message: str, running: Start, folder: Path
) -> None:
    (folder / "broken.mmedge").write_bytes((folder / "colors.mmedge").read_bytes()[:500])
    wrong = {
        **COLOR_STAGES,
        "image+text": COLOR_STAGES["image+text"].replace(
            "logits = MatMul(image_vec, turned)", "half = MatMul(image_vec, turned)\n  logits = Add(half, half)"
        ),
    }
    write_bundle(folder / "wrong.mmedge", wrong, goldens=color_goldens())
    device = running(TEXT)
    sink = watched(device)
    old = device.config
    text = change(TEXT).replace(BACK, "").replace("log.jsonl", "other.jsonl")
    text = text.replace(FRONT, FRONT + 'model = "colors"\n')
    with pytest.raises(MmedgeError, match=message):
        device.reload(parse_config(text.replace('"red", "green"', '"blue"'), folder))
    assert device.config is old
    status = device.status()
    assert "the new configuration was refused: " in (status["models"]["colors"]["error"] or "")
    assert status["models"]["colors"]["info"]["prompts"] == ["red", "green"]
    assert list(status["models"]) == ["colors"]
    assert set(status["sinks"]) == {"log", "probe"}
    goes_on(device, sink, "front")
    goes_on(device, sink, "back")
    size = (folder / "log.jsonl").stat().st_size
    wait_for(lambda: (folder / "log.jsonl").stat().st_size > size)
    device.reload(old)
    assert device.status()["models"]["colors"]["error"] is None


def test_a_changed_bundle_is_swapped_while_frames_run(running: Start, folder: Path) -> None:
    device = running(TEXT)
    sink = watched(device)
    # Another bundle under the same name.
    new = write_bundle(folder / "new.mmedge", verified=False)
    os.replace(new, folder / "colors.mmedge")
    before = device.status()["models"]["colors"]["info"]
    device.reload(parse_config(TEXT, folder))
    after = device.status()["models"]["colors"]["info"]
    assert (before["verified"], after["verified"]) == (True, False)
    assert after["prompt_version"] == before["prompt_version"] + 1
    wait_for(lambda: any(one.result.prompt_version == after["prompt_version"] for one in sink.of(Observation)))
    goes_on(device, sink, "front")


def test_prompts_that_somebody_set_stay_until_the_file_has_others(running: Start, folder: Path) -> None:
    device = running(TEXT)

    def prompts() -> Any:
        return device.status()["models"]["colors"]["info"]["prompts"]

    device.set_prompts("colors", ["blue"])
    device.reload(parse_config(TEXT + '[device]\nname = "x"\n', folder))
    assert prompts() == ["blue"]
    device.reload(parse_config(TEXT + '[privacy]\nblur = ["green"]\nthreshold = 0.5\n', folder))
    assert prompts() == ["blue", "green"]
    device.reload(parse_config(TEXT.replace('"green"', '"a thing"'), folder))
    assert prompts() == ["red", "a thing"]


def test_a_trigger_that_is_not_changed_goes_on(running: Start, bundle: Path) -> None:
    trigger = TriggerSettings("door", "red", on=0.9, min_duration=0.0)
    options = SourceOptions(Camera(lambda index: frame_of("red")), "front", reconnect="always")
    config = DeviceConfig(
        models={"colors": ModelConfig(str(bundle), ("red", "green"))},
        sources={"front": SourceConfig(options, "colors")},
        triggers={"door": trigger},
    )
    device = running(config)
    wait_for(lambda: device.status()["triggers"]["door"]["active"])
    [before] = device.events()
    device.reload(replace(config, triggers={"door": trigger, "gate": replace(trigger, name="gate")}))
    wait_for(lambda: device.status()["triggers"]["gate"]["active"])
    assert device.events()[-1].id == before.id
    assert device.status()["triggers"]["door"]["active"] == ["front"]
    device.reload(replace(config, triggers={}))
    wait_for(lambda: [event.reason for event in device.events()] == ["stopped", "stopped"])


def test_pictures_from_before_are_gone_when_more_is_private(running: Start, bundle: Path) -> None:
    trigger = TriggerSettings("door", "red", on=0.9, min_duration=0.0)
    hanging = Camera(lambda index: frame_of("red"), hang_at=10)
    options = SourceOptions(hanging, "front", reconnect="always")
    config = DeviceConfig(
        models={"colors": ModelConfig(str(bundle), ("red", "green"))},
        sources={"front": SourceConfig(options, "colors")},
        triggers={"door": trigger},
    )
    device = running(config)
    sink = watched(device)
    wait_for(lambda: device.status()["sources"]["front"]["processed"] == 10)
    newest = device.newest("front")
    assert newest is not None
    assert newest.frame is not None
    assert device.events()[0].best is not None
    count = len(sink.items)
    device.reload(replace(config, privacy=PrivacyConfig(pixels=False)))
    newest = device.newest("front")
    assert newest is not None
    assert newest.frame is None
    assert device.events()[0].best is None
    # Who keeps the newest picture by itself is told to forget it.
    wait_for(lambda: len(sink.items) > count and sink.of(Observation)[-1].frame is None)
    hanging.release.set()


def test_stopping_does_not_wait_for_a_reload(running: Start, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = running(TEXT)
    release = threading.Event()
    monkeypatch.setattr(
        "mmedge.device.models.load_model", lambda config: load_model(config) if release.wait() else None
    )
    new = parse_config(TEXT.replace(BACK, "").replace(FRONT, FRONT + 'model = "colors"\n') + NEW, folder)
    failed: list[MmedgeError] = []

    def reload() -> None:
        try:
            device.reload(new)
        except MmedgeError as error:
            failed.append(error)

    thread = threading.Thread(target=reload)
    thread.start()
    time.sleep(0.1)
    started = time.monotonic()
    device.stop()
    assert time.monotonic() - started < 4
    release.set()
    thread.join(10)
    assert not thread.is_alive()
    assert failed
    assert list(device.config.models) == ["colors"]


def test_lines_of_a_sink_that_is_not_changed_are_complete(running: Start, folder: Path) -> None:
    device = running(TEXT)
    for number in range(5):
        device.reload(parse_config(TEXT.replace('"green"', f'"{("blue", "green")[number % 2]}"'), folder))
    device.stop()
    for line in (folder / "log.jsonl").read_text().splitlines():
        json.loads(line)
