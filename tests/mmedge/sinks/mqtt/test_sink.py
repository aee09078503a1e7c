"""The MQTT sink against a real broker."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import cv2
import numpy as np
import pytest
from support.items import boxes_observation, event_of, scores_observation, state_change
from support.mqtt_broker import Listener, Mosquitto, retained

from mmedge.errors import InputError, SinkError, TextInputError
from mmedge.sinks.mqtt import Frames, Mqtt
from mmedge.sinks.naming import slug
from mmedge.sinks.queued import Queued
from mmedge.sinks.sink import Control, Item, PromptsChange, SinkContext, Watched

pytestmark = pytest.mark.mqtt

PROMPTS = ("a person", "a parcel")
BASE = "mmedge/porch"


class Prompts:
    """Takes prompts as a device does."""

    def __init__(self) -> None:
        self.version = 1
        self.calls: list[tuple[str, list[str]]] = []

    def set_prompts(self, model: str, prompts: Sequence[str]) -> int:
        self.calls.append((model, list(prompts)))
        if "refuse" in prompts:
            raise TextInputError("these prompts cannot be used: rtsp://me:secret@camera")
        if "crash" in prompts:
            raise RuntimeError("broken")
        self.version += 1
        return self.version


def context(control: Control | None = None, *, boxes: bool = True, pixels: bool = True) -> SinkContext:
    watched = Watched("front", "door", PROMPTS, triggered=("a person",), boxes=boxes)
    return SinkContext("porch", (watched,), control, pixels)


@contextlib.contextmanager
def opened(broker: Mosquitto, about: SinkContext | None = None, **options: Any) -> Iterator[Mqtt]:
    sink = Mqtt("127.0.0.1", broker.port, context=about or context(), **options)
    try:
        sink.write(state_change("live"))
        with Listener(broker, f"{BASE}/#") as listener:
            listener.topic(f"{BASE}/sources/front/availability", b"online")
        yield sink
    finally:
        sink.close()


def prompt_topic(prompt: str) -> str:
    return f"{BASE}/sources/front/prompts/{slug(prompt)}"


def until_lost(sink: Mqtt) -> None:
    """Until the sink has seen that its broker is gone."""
    for _ in range(500):
        try:
            sink.write(boxes_observation())
        except SinkError:
            return
        time.sleep(0.01)
    raise AssertionError("the broker is still there")


def write_all(sink: Mqtt, items: Sequence[Item]) -> None:
    for item in items:
        sink.write(item)


def configs(held: dict[str, bytes]) -> dict[str, Any]:
    """By component and name, the discovery configurations that a broker holds."""
    found = {topic: json.loads(payload) for topic, payload in held.items() if topic.startswith("homeassistant/")}
    return {f"{topic.split('/')[1]} {config['name']}": config for topic, config in found.items()}


def test_states_are_retained_and_happenings_are_not(broker: Mosquitto) -> None:
    with Listener(broker) as listener, opened(broker, frames=Frames(rate=60, size=32)) as sink:
        seen = boxes_observation(["a parcel"])
        sink.write(seen)
        sink.write(event_of("start", seen.result))
        event = listener.topic(f"{BASE}/sources/front/event")
        result = listener.topic(f"{BASE}/sources/front/result")
        picture = listener.topic(f"{BASE}/sources/front/image")
        held = retained(broker)

    assert json.loads(event.payload)["kind"] == "start"
    assert json.loads(result.payload) == seen.result.to_json()
    image = cv2.imdecode(np.frombuffer(picture.payload, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (24, 32, 3)
    own = {topic.removeprefix(BASE): payload for topic, payload in held.items() if topic.startswith(BASE)}
    assert {topic: own.pop(topic) for topic in ("/availability", "/sources/front/availability")} == {
        "/availability": b"online",
        "/sources/front/availability": b"online",
    }
    assert json.loads(own.pop("/sources/front/state"))["state"] == "live"
    assert json.loads(own.pop("/models/door/prompts"))["prompts"] == list(PROMPTS)
    assert own.pop("/models/door/prompts/text") == b"a person; a parcel"
    assert own == {f"/sources/front/prompts/{slug(prompt)}": b"ON" for prompt in PROMPTS}


def test_a_killed_process_is_offline(broker: Mosquitto) -> None:
    script = (
        "import sys, time\n"
        "from mmedge.sinks.mqtt import Mqtt\n"
        "from mmedge.sinks.sink import SinkContext\n"
        "sink = Mqtt('127.0.0.1', int(sys.argv[1]), context=SinkContext('porch'))\n"
        "time.sleep(60)\n"
    )
    with Listener(broker) as listener:
        process = subprocess.Popen([sys.executable, "-c", script, str(broker.port)])
        try:
            listener.topic(f"{BASE}/availability", b"online")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        listener.topic(f"{BASE}/availability", b"offline")
        assert retained(broker, f"{BASE}/availability") == {f"{BASE}/availability": b"offline"}


def test_closing_says_offline_and_leaves_no_thread(broker: Mosquitto) -> None:
    before = threading.active_count()
    with opened(broker, context(Prompts())):
        assert threading.active_count() > before
    assert retained(broker, f"{BASE}/availability") == {f"{BASE}/availability": b"offline"}
    assert threading.active_count() == before


def test_the_last_will_of_an_earlier_connection_is_set_right(broker: Mosquitto) -> None:
    with opened(broker), Listener(broker) as other:
        other.publish(f"{BASE}/availability", b"offline", retain=True)
        other.wait(lambda one: one.topic == f"{BASE}/availability" and one.payload == b"online" and not one.retained)


def test_home_assistant_gets_everything_again_when_it_says_that_it_is_back(broker: Mosquitto) -> None:
    with opened(broker), Listener(broker) as listener:
        listener.settle()
        first = {message.topic: message.payload for message in listener.messages if message.retained}
        listener.forget()
        listener.publish("homeassistant/status", b"online")
        del first[f"{BASE}/availability"]
        for topic, payload in first.items():
            listener.topic(topic, payload)


def test_discovery_covers_prompts_state_picture_and_editing(broker: Mosquitto) -> None:
    with opened(broker, context(Prompts())):
        found = configs(retained(broker))
    assert found.keys() == {
        "binary_sensor Connected",
        "binary_sensor a person",
        "binary_sensor a parcel",
        "sensor State",
        "image Image",
        "text Prompts",
    }
    assert found["binary_sensor a person"]["state_topic"] == prompt_topic("a person")
    assert found["binary_sensor a person"]["availability_mode"] == "all"
    assert found["text Prompts"]["command_topic"] == f"{BASE}/models/door/prompts/set"
    assert len({config["unique_id"] for config in found.values()}) == len(found)


def test_without_pixels_or_control_none_are_announced_or_sent(broker: Mosquitto) -> None:
    with Listener(broker) as listener, opened(broker, context(boxes=False, pixels=False)) as sink:
        assert sink.pixels is False
        sink.write(boxes_observation())
        listener.topic(f"{BASE}/sources/front/result")
        listener.settle()
        assert not [one.topic for one in listener.messages if one.topic.endswith("/image")]
        found = configs(retained(broker))
    assert found.keys() == {"binary_sensor Connected", "binary_sensor a person", "sensor a parcel", "sensor State"}


def test_other_prompts_clear_what_the_old_ones_left(broker: Mosquitto) -> None:
    with opened(broker) as sink:
        new = ("a person", "a dog")
        sink.write(PromptsChange("door", ("front",), new, 2, datetime.now(timezone.utc)))
        with Listener(broker) as listener:
            listener.topic(prompt_topic("a dog"))
        held = retained(broker)
    assert {topic for topic in held if "/prompts/" in topic and "/sources/" in topic} == set(map(prompt_topic, new))
    assert configs(held).keys() == {
        "binary_sensor Connected",
        "binary_sensor a person",
        "binary_sensor a dog",
        "sensor State",
        "image Image",
    }
    assert json.loads(held[f"{BASE}/models/door/prompts"])["version"] == 2


def test_what_an_earlier_run_left_is_cleared(broker: Mosquitto) -> None:
    left = [
        f"{BASE}/sources/gone/state",
        f"{BASE}/sources/front/prompts/gone",
        "homeassistant/binary_sensor/mmedge_porch/source_gone_prompt_x/config",
    ]
    others = ["homeassistant/binary_sensor/mmedge_shed/x/config", f"{BASE}-2/sources/gone/state"]
    with Listener(broker) as listener:
        for topic in (*left, *others):
            listener.publish(topic, b'{"name": "old"}', retain=True)
        with opened(broker):
            for topic in left:
                listener.topic(topic, b"")
            held = retained(broker)
    assert not held.keys() & set(left)
    assert held.keys() >= set(others)


@pytest.mark.parametrize(
    "payload",
    [b'["a cat", "a dog; asleep"]', b"a cat; a dog", "ein Kätzchen\n\nein Hund\n".encode()],
    ids=["json", "semicolons", "lines"],
)
def test_a_command_changes_the_prompts(broker: Mosquitto, payload: bytes) -> None:
    control = Prompts()
    with opened(broker, context(control)), Listener(broker) as listener:
        listener.publish(f"{BASE}/models/door/prompts/set", payload)
        answer = listener.wait(
            lambda one: one.topic == f"{BASE}/models/door/prompts" and json.loads(one.payload)["version"] == 2
        )
        for prompt in json.loads(answer.payload)["prompts"]:
            listener.wait(lambda one, prompt=prompt: one.topic == prompt_topic(prompt))
    ((model, prompts),) = control.calls
    assert model == "door"
    assert json.loads(answer.payload)["prompts"] == prompts
    assert len(prompts) == 2


@pytest.mark.parametrize("told_first", [True, False])
def test_what_the_device_tells_counts_more_than_the_command(broker: Mosquitto, told_first: bool) -> None:
    """A device adds the prompts of its privacy and its triggers to those that were asked for."""
    in_force = ("a cat", "a face")
    change = PromptsChange("door", ("front",), in_force, 2, datetime.now(timezone.utc))

    class Device(Prompts):
        def set_prompts(self, model: str, prompts: Sequence[str]) -> int:
            version = super().set_prompts(model, prompts)
            if told_first:
                sink.write(change)
            return version

    with opened(broker, context(Device())) as sink, Listener(broker, f"{BASE}/models/door/#") as listener:
        listener.publish(f"{BASE}/models/door/prompts/set", b'["a cat"]')
        listener.wait(lambda m: m.topic == f"{BASE}/models/door/prompts" and json.loads(m.payload)["version"] == 2)
        if not told_first:
            sink.write(change)
        listener.wait(
            lambda m: m.topic == f"{BASE}/models/door/prompts" and json.loads(m.payload)["prompts"] == list(in_force)
        )
        listener.settle()
    assert json.loads(retained(broker)[f"{BASE}/models/door/prompts"])["prompts"] == list(in_force)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "got none"),
        (b" ; ;\n", "got none"),
        (b"\xff\xfe", "UTF-8"),
        (b'["a cat"', "no JSON"),
        (b"[" * 10_000, "no JSON"),
        (b'["a cat", 7]', "other things than text"),
        (rb'["\ud800"]', "half a character"),
        (b"x" * 20_000, "at most 16,384 bytes"),
        (b"refuse", "these prompts cannot be used"),
        (b"crash", "the log of the device says why"),
    ],
    ids=["empty", "blank", "not-utf8", "cut-json", "deep-json", "numbers", "surrogate", "large", "refused", "crash"],
)
def test_a_command_that_cannot_be_used_is_answered_and_changes_nothing(
    command_room: tuple[Listener, Prompts], payload: bytes, says: str
) -> None:
    listener, control = command_room
    listener.forget()
    listener.publish(f"{BASE}/models/door/prompts/set", payload)
    answer = listener.topic(f"{BASE}/models/door/prompts/error")
    assert says in json.loads(answer.payload)["error"]
    assert b"secret" not in answer.payload
    assert control.version == 1


@pytest.fixture
def command_room(broker: Mosquitto) -> Iterator[tuple[Listener, Prompts]]:
    control = Prompts()
    with opened(broker, context(control)), Listener(broker) as listener:
        yield listener, control


def test_a_retained_command_and_a_flood_of_commands_are_not_carried_out(broker: Mosquitto) -> None:
    control = Prompts()
    topic = f"{BASE}/models/door/prompts/set"
    with Listener(broker) as listener:
        listener.publish(topic, b"from last year", retain=True)
        with opened(broker, context(control)):
            answer = listener.topic(f"{BASE}/models/door/prompts/error")
            for number in range(200):
                listener.publish(topic, f"a cat {number}".encode())
            listener.settle()
            time.sleep(0.2)
    assert "must not be retained" in json.loads(answer.payload)["error"]
    assert 1 <= len(control.calls) <= 12


def test_a_restarted_broker_gets_everything_again(broker: Mosquitto) -> None:
    with opened(broker) as sink:
        before = retained(broker)
        broker.stop()
        until_lost(sink)
        with pytest.raises(SinkError, match=r"mqtt broker 127\.0\.0\.1"):
            sink.write(event_of("start", boxes_observation().result))
        sink.write(state_change("stale", previous="live"))
        broker.start()
        with Listener(broker) as listener:
            listener.topic(f"{BASE}/availability", b"online")
            listener.topic(f"{BASE}/sources/front/availability", b"offline")
            listener.topic(f"{BASE}/models/door/prompts/text")
            # The happening went on while nobody could be told, and its state is told now.
            listener.topic(prompt_topic("a person"), b"ON")
        after = retained(broker)
    assert after.keys() == before.keys()
    assert json.loads(after[f"{BASE}/sources/front/state"])["state"] == "stale"


def test_a_thousand_results_do_not_wait_for_a_broker_that_is_gone_or_hangs(broker: Mosquitto) -> None:
    results = [boxes_observation(["a parcel"], at=float(number)) for number in range(1000)]
    sink = Mqtt("127.0.0.1", broker.port, context=context(), results_rate=1000, frames=Frames(rate=60))
    queued = Queued(sink, capacity=10)
    sink.write(state_change("live"))
    with broker.hung():
        started = time.monotonic()
        for one in results:
            with contextlib.suppress(SinkError):
                sink.write(one)
        hung_s = time.monotonic() - started
    broker.stop()
    until_lost(sink)
    started = time.monotonic()
    errors = queued.counters.errors
    for one in results:
        queued.put(one)
    put_s = time.monotonic() - started
    assert queued.close(5.0)
    assert hung_s < 5
    assert put_s < 1
    counters = queued.counters
    assert counters.written + counters.errors - errors + counters.dropped >= 1000
    assert counters.errors > errors
    assert "mqtt broker 127.0.0.1" in (counters.last_error or "")


def test_what_waits_for_a_slow_broker_is_bounded(broker: Mosquitto) -> None:
    with opened(broker, results_rate=1000, frames=None) as sink:
        large = boxes_observation(["a parcel"] * 5000)
        size = len(json.dumps(large.result.to_json()))
        items = [boxes_observation(["a parcel"] * 5000, at=float(number)) for number in range(100 * 2**20 // size)]
        with broker.hung(), pytest.raises(SinkError, match=r"is too slow: .* wait already"):
            write_all(sink, items)
        with Listener(broker) as listener:
            for number in range(1000):
                with contextlib.suppress(SinkError):
                    sink.write(event_of("start", large.result, id=f"e{number}"))
                    break
                time.sleep(0.02)
            listener.topic(f"{BASE}/sources/front/event")


def test_a_wrong_password_is_said_without_it(start_broker: Callable[..., Mosquitto], tmp_path: Any) -> None:
    file = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(file), "camera", "right-one"], check=True)
    broker = start_broker("allow_anonymous false", f"password_file {file}")
    sink = Mqtt("127.0.0.1", broker.port, username="camera", password="wrong-one")
    try:
        with pytest.raises(SinkError, match="refused this client: Not authorized") as caught:
            sink.write(boxes_observation())
    finally:
        sink.close()
    assert "wrong-one" not in f"{caught.value} {sink._settings!r}"
    right = Mqtt("127.0.0.1", broker.port, username="camera", password="right-one")
    right.write(boxes_observation())
    right.close()


def test_tls_checks_who_the_broker_is(start_broker: Callable[..., Mosquitto], tmp_path: Any) -> None:
    for name in ("ours", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem"), "-days", "2"]
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*command, *files, *subject], check=True, capture_output=True)
    broker = start_broker(
        "allow_anonymous true", f"certfile {tmp_path / 'ours.pem'}", f"keyfile {tmp_path / 'ours.key'}"
    )
    from mmedge.sinks.mqtt import Tls

    good = Mqtt("127.0.0.1", broker.port, tls=Tls(ca=str(tmp_path / "ours.pem")))
    good.write(boxes_observation())
    good.close()
    bad = Mqtt("127.0.0.1", broker.port, tls=Tls(ca=str(tmp_path / "other.pem")))
    with pytest.raises(SinkError, match="cannot be reached"):
        bad.write(boxes_observation())
    bad.close()
    with pytest.raises(InputError, match=r"tls needs PEM files, got .*none\.pem"):
        Mqtt("127.0.0.1", broker.port, tls=Tls(ca=str(tmp_path / "none.pem")))


def test_scores_are_paced_and_only_of_what_is_there_now(broker: Mosquitto) -> None:
    with Listener(broker) as listener, opened(broker, context(boxes=False)) as sink:
        start = time.monotonic()
        for number in range(20):
            sink.write(scores_observation({"a person": 0.5, "a parcel": 0.25 + number / 100}, at=start + number / 10))
        sink.write(scores_observation({"a parcel": 0.9}, at=start + 9, state="frozen"))
        listener.topic(prompt_topic("a parcel"), b"0.3500")
        listener.settle()
        shown = [one.payload for one in listener.messages if one.topic == prompt_topic("a parcel")]
    assert shown == [b"0.2500", b"0.3500"]
