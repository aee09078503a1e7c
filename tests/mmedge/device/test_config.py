from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from mmedge.device.config import SHOWN, DeviceConfig, ModelConfig, PrivacyConfig, SinkConfig
from mmedge.device.reading import parse_config
from mmedge.errors import ConfigError
from mmedge.streaming import Backoff, SourceOptions

FULL = """\
[device]
name = "hall"

[server]
port = 0
token_file = "token"

[models.scene]
prompts = ["the red cube"]
prompt_file = "prompts.txt"
engine = { image = "openvino", text = "onnxruntime" }
threads = 2
threshold = 0.25

[models.other]
bundle = "other.mmedge"

[sources.front]
url = "rtsp://user:${HALL_PASSWORD}@camera/1"
model = "scene"
policy = "every"
max_age = 0.5
max_rate = 5
stale_after = 2
frozen_after = false
timeout = 3.0
open_timeout = 4.0
backoff = { first = 0.1, longest = 1.0, attempts = 9 }
blur = [[0, 0, 0.5, 0.25]]

[sources.clip]
url = "clips/a.mp4"
model = "other"
reconnect = "never"

[sources.gate]
url = "rtsp://user@gate/1"
password_file = "secret"
model = "other"

[zones.table]
points = [[0, 0.5], [1, 0.5], [0.5, 1]]
sources = ["front"]

[triggers.cube]
prompt = "the red cube"
sources = ["front"]
on = 0.6
off = 0.4
zone = "table"
update_every = false

[privacy]
blur = ["the blue ball"]
hold = 0

[sinks.log]
kind = "jsonl"
path = "out/log.jsonl"
capacity = 8
types = ["event"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    (tmp_path / "secret").write_text("p@ss/word\n")
    (tmp_path / "prompts.txt").write_text("the blue ball\n\n the red cube \n", encoding="utf-8")
    (tmp_path / "other.mmedge").write_bytes(b"not looked at")
    monkeypatch.setenv("HALL_PASSWORD", "hunter22")
    monkeypatch.delenv("NOT_SET", raising=False)
    return tmp_path


def test_a_whole_file(folder: Path) -> None:
    config = parse_config(FULL, folder)
    assert config.name == "hall"
    assert config.server.token == "0123456789abcdef"
    scene = config.models["scene"]
    assert scene.prompts == ("the red cube", "the blue ball")
    assert (scene.path, scene.engine) == (None, {"image": "openvino", "text": "onnxruntime"})
    assert config.models["other"].path == folder / "other.mmedge"
    assert config.sources["front"].options == SourceOptions(
        "rtsp://user:hunter22@camera/1",
        "front",
        policy="every",
        max_age=0.5,
        max_rate=5.0,
        stale_after=2.0,
        frozen_after=None,
        timeout=3.0,
        open_timeout=4.0,
        reconnect="always",
        backoff=Backoff(0.1, 1.0, 9),
    )
    assert config.sources["front"].blur == ((0.0, 0.0, 0.5, 0.25),)
    assert config.sources["clip"].options.source == str(folder / "clips/a.mp4")
    assert config.sources["clip"].options.reconnect == "never"
    assert config.sources["gate"].options.source == "rtsp://user:p%40ss%2Fword@gate/1"
    assert config.zones["table"].sources == ("front",)
    trigger = config.triggers["cube"]
    assert (trigger.on, trigger.off, trigger.zone, trigger.update_every) == (0.6, 0.4, "table", None)
    assert config.privacy == PrivacyConfig(blur=("the blue ball",), hold=0.0)
    assert config.sinks["log"] == SinkConfig("jsonl", {"path": str(folder / "out/log.jsonl"), "types": ["event"]}, 8)
    assert config.watched_by("other") == ("clip", "gate")


def test_the_smallest_file_is_one_source_for_the_built_in_model(tmp_path: Path) -> None:
    config = parse_config('[sources.table]\nurl = "tabletop://"', tmp_path)
    assert config.models == {"model": ModelConfig(prompts=SHOWN)}
    assert config.sources["table"].model == "model"
    assert config.sources["table"].options.reconnect == "always"


SOURCE = '[sources.front]\nurl = "0"\n'
WRONG = {
    "no-source": ("", 1, "sources: expected at least one table"),
    "unknown-table": (
        f'{SOURCE}[source.back]\nurl = "1"',
        3,
        "source: there is no such table; did you mean 'sources'?",
    ),
    "table-is-a-value": ("sources = 3", 1, "sources: expected tables [sources.NAME], got 3"),
    "source-is-a-value": ("sources.front = 3", 1, "sources.front: expected a table [sources.NAME], got 3"),
    "device-is-a-value": (f"device = 3\n{SOURCE}", 1, "device: expected a table, got 3"),
    "unknown-key": (f"{SOURCE}max_rat = 3", 3, "sources.front.max_rat: there is no such key; did you mean 'max_rate'?"),
    "unlike-any-key": (f"{SOURCE}zzz = 3", 3, "sources.front.zzz: there is no such key; known are backoff, blur,"),
    "missing-key": (
        "[sources.front]\nmax_rate = 1",
        1,
        "sources.front: expected the key 'url', text, and it is missing",
    ),
    "text-for-number": (f'{SOURCE}max_rate = "fast"', 3, "sources.front.max_rate: expected a number above 0"),
    "true-is-no-number": (f"{SOURCE}timeout = true", 3, "timeout: expected a number above 0 and up to 1e+06, got true"),
    "nan": (f"{SOURCE}timeout = nan", 3, "sources.front.timeout: expected a number above 0 and up to 1e+06, got nan"),
    "zero-seconds": (f"{SOURCE}stale_after = 0", 3, "sources.front.stale_after: expected a number above 0"),
    "choice": (f'{SOURCE}policy = "newest"', 3, "policy: expected one of auto, freshest, every, got 'newest'"),
    "backoff-key": (
        f"{SOURCE}backoff = {{ firs = 1 }}",
        3,
        "backoff.firs: there is no such key; did you mean 'first'?",
    ),
    "backoff-value": (f"{SOURCE}backoff.first = -1", 3, "sources.front.backoff.first: expected a number above 0"),
    "blur-order": (
        f"{SOURCE}blur = [\n[0, 0, 1, 1],\n[1, 0, 0, 1]]",
        5,
        "sources.front.blur[1]: expected [x0, y0, x1,",
    ),
    "blur-length": (f"{SOURCE}blur = [[0, 0, 1]]", 3, "sources.front.blur: expected a list, each a list of 4"),
    "empty-url": ('[sources.front]\nurl = ""', 2, "sources.front.url: expected the name of a source, got ''"),
    "scheme": ('[sources.front]\nurl = "rstp://c/"', 2, "sources.front.url: rstp://c/: unknown scheme 'rstp'"),
    "tabletop": (
        '[sources.front]\nurl = "tabletop://?sed=1"',
        2,
        "sources.front.url: tabletop://?sed=1: expected each",
    ),
    "fault": ('[sources.front]\nurl = "fault+0?drp=1"', 2, "sources.front.url: fault+0?drp=1: "),
    "no-such-model": (
        f'{SOURCE}model = "modle"\n[models.model]',
        3,
        "there is no model 'modle'; did you mean 'model'?",
    ),
    "model-not-named": (
        f"{SOURCE}[models.a]\n[models.b]",
        1,
        "sources.front: expected the key 'model', one of a, b, and",
    ),
    "name": (f'{SOURCE}["models"."a b"]', 3, 'models."a b": expected a name of letters, digits, _, - and ., up to 64'),
    "no-bundle": (
        f'{SOURCE}[models.m]\nbundle = "none.mmedge"',
        4,
        "models.m.bundle: expected a file that exists, got",
    ),
    "empty-prompt": (
        f'{SOURCE}[models.m]\nprompts = ["a",\n " "]',
        5,
        "models.m.prompts[1]: expected a text that is not",
    ),
    "prompts-type": (f'{SOURCE}[models.m]\nprompts = "a"', 4, "models.m.prompts: expected a list, each text, got 'a'"),
    "threshold": (f"{SOURCE}[models.m]\nthreshold = 2", 4, "models.m.threshold: expected a number from 0 to 1, got 2"),
    "threads": (
        f"{SOURCE}[models.m]\nthreads = 0",
        4,
        "models.m.threads: expected a whole number above 0 and up to 256",
    ),
    "zone-points": (
        f"{SOURCE}[zones.z]\npoints = [[0, 0], [1, 1]]",
        4,
        "zones.z.points: zone 'z': points must be 3 to 64",
    ),
    "zone-source": (
        f'{SOURCE}[zones.z]\npoints = [[0, 0], [1, 0], [1, 1]]\nsources = ["frnt"]',
        5,
        "zones.z.sources[0]: there is no source 'frnt'; did you mean 'front'?",
    ),
    "trigger-without-threshold": (
        f'{SOURCE}[triggers.t]\nprompt = "a"',
        3,
        "triggers.t: expected the key 'on' or the key",
    ),
    "trigger-off": (
        f'{SOURCE}[triggers.t]\nprompt = "a"\non = 0.1\noff = 0.2',
        6,
        "triggers.t.off: trigger 't': off must be",
    ),
    "trigger-zone": (
        f'{SOURCE}[triggers.t]\nprompt = "a"\non = 1\nzone = "z"',
        6,
        "triggers.t.zone: there is no zone 'z'",
    ),
    "trigger-source": (
        f'{SOURCE}[triggers.t]\nprompt = "a"\non = 1\nsources = ["back"]',
        6,
        "triggers.t.sources[0]: there is no source 'back'",
    ),
    "trigger-negatives": (
        f'{SOURCE}[triggers.t]\nprompt = "a"\non = 1\nnegatives = ["a"]',
        6,
        "triggers.t.negatives: trigger 't': negatives",
    ),
    "calibration": (
        f'{SOURCE}[triggers.t]\nprompt = "a"\ncalibration = "no.toml"',
        5,
        "triggers.t.calibration: calibration",
    ),
    "privacy": (f'{SOURCE}[privacy]\nblur = "a face"', 4, "privacy.blur: expected a list, each text, got 'a face'"),
    "privacy-threshold": (f"{SOURCE}[privacy]\nthreshold = 1.5", 4, "privacy.threshold: expected a number from 0 to 1"),
    "pixels": (f'{SOURCE}[privacy]\npixels = "no"', 4, "privacy.pixels: expected true or false, got 'no'"),
    "sink-kind": (
        f'{SOURCE}[sinks.log]\nkind = "json"',
        4,
        "sinks.log.kind: there is no such kind of sink; did you mean 'jsonl'?",
    ),
    "sink-without-kind": (f'{SOURCE}[sinks.log]\npath = "a"', 3, "sinks.log: expected the key 'kind', text, and it is"),
    "sink-option": (
        f'{SOURCE}[sinks.log]\nkind = "jsonl"\npth = "a"',
        5,
        "sinks.log.pth: there is no such key; did you mean 'path'",
    ),
    "sink-needs": (
        f'{SOURCE}[sinks.log]\nkind = "jsonl"',
        3,
        "sinks.log: expected the key 'path', text, and it is missing",
    ),
    "sink-type": (
        f'{SOURCE}[sinks.log]\nkind = "jsonl"\npath = "a"\nkeep = "b"',
        6,
        "sinks.log.keep: expected a whole number",
    ),
    "capacity": (
        f'{SOURCE}[sinks.log]\nkind = "jsonl"\npath = "a"\ncapacity = 0',
        6,
        "sinks.log.capacity: expected a whole",
    ),
    "server-host": (
        f'{SOURCE}[server]\nhost = "0.0.0.0"',
        4,
        "server.host: host 0.0.0.0 can be reached from other machines",
    ),
    "server-port": (
        f"{SOURCE}[server]\nport = 70000",
        4,
        "server.port: port must be a whole number from 0 to 65535, got 70000",
    ),
    "server-key": (f'{SOURCE}[server]\ntokn = "x"', 4, "server.tokn: there is no such key; did you mean 'token'"),
    "two-tokens": (
        f'{SOURCE}[server]\ntoken = "0123456789abcdef"\ntoken_file = "token"',
        5,
        "server.token_file: expected either",
    ),
    "no-token-file": (
        f'{SOURCE}[server]\ntoken_file = "none"',
        4,
        "server.token_file: expected a file that can be read",
    ),
    "variable": (
        '[sources.front]\nurl = "rtsp://u:${NOT_SET}@c/"',
        2,
        "expected the environment variable NOT_SET to be set",
    ),
    "variable-name": ('[sources.front]\nurl = "${a b}"', 2, "sources.front.url: expected ${NAME} with the name of an"),
    "password-twice": (
        '[sources.front]\nurl = "rtsp://u:p@c/"\npassword_file = "secret"',
        2,
        "sources.front.url: expected USER@ and no",
    ),
    "password-file": (
        '[sources.front]\nurl = "rtsp://u@c/"\npassword_file = "none"',
        3,
        "password_file: expected a file that",
    ),
    "password-file-lines": (
        '[sources.front]\nurl = "rtsp://u@c/"\npassword_file = "prompts.txt"',
        3,
        "password_file: expected a file of one line",
    ),
}


@pytest.mark.parametrize(("text", "line", "message"), WRONG.values(), ids=list(WRONG))
def test_a_mistake_is_told_with_its_line_and_key(text: str, line: int, message: str, folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, folder)
    told = str(caught.value).splitlines()
    assert len(told) == 1, told
    assert told[0].startswith(f"device.toml:{line}: ")
    assert message in told[0]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = '[sources.a]\nurl = 3\n[models.m]\nthreads = "x"\n[sources.b]\n[privacy]\nhold = -1\n[sinks.s]\nkind = 5\n'
    with pytest.raises(ConfigError) as caught:
        parse_config(text, folder)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        f"device.toml:{line}" for line in (2, 4, 5, 7, 9)
    ]


def test_a_file_with_very_many_mistakes_tells_the_first_20(folder: Path) -> None:
    text = SOURCE + "\n".join(f"wrong{number} = 1" for number in range(100))
    with pytest.raises(ConfigError) as caught:
        parse_config(text, folder)
    told = str(caught.value).splitlines()
    assert len(told) == 21
    assert told[-1] == "… and 80 more"


def test_a_wrong_value_that_is_secret_is_not_told(folder: Path) -> None:
    text = FULL.replace('token_file = "token"', 'token = "short"').replace("hunter", "")
    text += '[sources.x]\nurl = ["rtsp://u:hunter22@c/"]\npassword_file = ["hunter22"]\n'
    with pytest.raises(ConfigError) as caught:
        parse_config(text, folder)
    assert "hunter22" not in str(caught.value)
    assert "short" not in str(caught.value).replace("a shorter one", "")


def test_a_configuration_does_not_show_its_secrets(folder: Path) -> None:
    config = parse_config(FULL, folder)
    for secret in ("hunter22", "p@ss/word", "p%40ss%2Fword", "0123456789abcdef"):
        assert secret not in repr(config)
        assert secret not in config.secrets.hide(f"rtsp://x/{secret}/1")


def test_a_dollar_sign_can_be_written(folder: Path) -> None:
    config = parse_config('[models.m]\nprompts = ["$${a} $5 ${HALL_PASSWORD}"]\n' + SOURCE, folder)
    assert config.models["m"].prompts == ("${a} $5 hunter22",)


def test_read_names_the_file(folder: Path) -> None:
    path = folder / "hall.toml"
    path.write_text("[sources.front]\nurl = 3\n")
    with pytest.raises(ConfigError, match=r"^hall\.toml:2: sources\.front\.url: expected text, got 3$"):
        DeviceConfig.read(path)
    path.write_bytes(b"[sources.front]\nurl = '\xff'\n")
    with pytest.raises(ConfigError, match=r"^hall\.toml:2: expected UTF-8 text, got the byte 0xff$"):
        DeviceConfig.read(path)
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        DeviceConfig.read(folder / "none.toml")
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigError, match="at most 1,048,576 bytes"):
        DeviceConfig.read(path)


def test_relative_paths_start_at_the_folder_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    (folder / "d.toml").write_text('[sources.a]\nurl = "clip.mp4"\n[sinks.l]\nkind = "jsonl"\npath = "~/x.jsonl"\n')
    config = DeviceConfig.read(Path("..") / "d.toml")
    assert os.path.normpath(str(config.sources["a"].options.source)) == str(folder / "sub" / ".." / "clip.mp4").replace(
        "/sub/..", ""
    )
    assert config.sinks["l"].options["path"] == os.path.expanduser("~/x.jsonl")


@pytest.mark.parametrize(
    "url",
    ["0", "/dev/video0", "rtsp://c/1", "tabletop://?seed=1", "fault+tabletop://?drop=1", "csi://0", "0?size=640x480"],
)
def test_sources_that_are_no_relative_paths_stay_as_they_are(url: str, folder: Path) -> None:
    config = parse_config(f'[sources.a]\nurl = "{url}"', folder)
    assert config.sources["a"].options.source == url


def test_every_field_of_a_source_can_be_set() -> None:
    from mmedge.device.keys import SCHEMA

    assert {field.name for field in fields(SourceOptions)} - {"source", "name"} <= set(SCHEMA["sources.NAME"])
