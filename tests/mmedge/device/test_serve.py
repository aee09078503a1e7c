from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import ENVIRONMENT
from support.device import wait_for

from mmedge.cli import app
from mmedge.device.config import DeviceConfig, ModelConfig
from mmedge.device.quick import quick_config
from mmedge.errors import InputError

TEXT = """\
[device]
name = "hall"
[server]
port = 0
[models.colors]
bundle = "colors.mmedge"
engine = "onnxruntime"
prompts = ["red"]
[sources.front]
url = "tabletop://?width=64&height=48"
[sources.gone]
url = "rtsp://me:pass-w0rd@127.0.0.1:1/x"
open_timeout = 1.0
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        app(["serve", *map(str, arguments)], prog_name="mmedge")
    printed = capsys.readouterr()
    return int(left.value.code or 0), printed.out, printed.err


class Served:
    """``mmedge serve`` in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        self.lines: list[str] = []
        command = [sys.executable, "-m", "mmedge", "serve", *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = wait_for(self._address, 60)

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def _address(self) -> str | None:
        assert self.process.poll() is None, self.lines
        found = re.search(r"is at (http://127\.0\.0\.1:\d+)$", "".join(self.lines), re.MULTILINE)
        return None if found is None else found[1]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.address}{path}", timeout=10) as answer:
            return json.load(answer)

    def end(self, number: signal.Signals) -> tuple[int, float]:
        """Ask it to end; its exit code, and after how many seconds."""
        started = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(20)
        self._reader.join(5)
        return code, time.monotonic() - started


@pytest.fixture
def served() -> Iterator[list[Served]]:
    processes: list[Served] = []
    yield processes
    for one in processes:
        one.process.kill()
        one.process.wait()


def test_a_device_from_its_file_until_it_is_asked_to_end(folder: Path, served: list[Served]) -> None:
    file = folder / "device.toml"
    file.write_text(TEXT)
    served.append(one := Served(file))
    wait_for(lambda: one.get("/api/v1/status")["sources"]["front"]["processed"] > 3)
    assert one.get("/healthz")["status"] == "ok"
    assert one.get("/readyz")["ready"]
    gone = wait_for(lambda: (s := one.get("/api/v1/status")["sources"]["gone"])["reason"] and s)
    assert gone["state"] == "connecting"

    file.write_text(TEXT.replace('["red"]', '["green"]'))
    one.process.send_signal(signal.SIGHUP)
    wait_for(lambda: one.get("/api/v1/status")["models"]["colors"]["info"]["prompts"] == ["green"])

    file.write_text(TEXT.replace("[sources.front]", "[sources.front]\nmax_rat = 3"))
    one.process.send_signal(signal.SIGHUP)
    error = wait_for(lambda: one.get("/api/v1/status")["models"]["colors"]["error"])
    assert "device.toml:10: sources.front.max_rat: there is no such key; did you mean 'max_rate'?" in error
    before = one.get("/api/v1/status")["sources"]["front"]["processed"]
    wait_for(lambda: one.get("/api/v1/status")["sources"]["front"]["processed"] > before)

    code, seconds = one.end(signal.SIGTERM)
    assert code == 0
    assert seconds < 3
    told = "".join(one.lines)
    assert told.count("hall is at http://") == 1
    assert "max_rat" in told
    assert "pass-w0rd" not in told
    assert "Traceback" not in told


def test_without_a_file_the_options_make_the_device(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[DeviceConfig] = []
    monkeypatch.setattr(sys.modules["mmedge.cli.serve"], "_run", lambda config, reload: ran.append(config))
    code, _, err = run(
        capsys, "--source", "0", "--source", "1", "--text", "a parcel", "--bundle", "x.mmedge", "--port", 0
    )
    assert code == 0, err
    [config] = ran
    assert [source.options.source for source in config.sources.values()] == ["0", "1"]
    assert config.models["model"] == ModelConfig("x.mmedge", ("a parcel",))
    assert config.server.port == 0


def test_the_quick_device_has_something_to_show() -> None:
    config = quick_config([], [], None)
    assert config.sources["camera"].options.source == "tabletop://"
    assert config.models["model"].path is None
    assert len(config.models["model"].prompts) >= 2
    assert config.server.port == 7860
    several = quick_config(["0", "rtsp://me:pass-w0rd@c/"], ["a parcel"], Path("door.mmedge"), port=0)
    assert list(several.sources) == ["camera1", "camera2"]
    assert several.secrets.hide("pass-w0rd") == "***"
    assert several.models["model"].prompts == ("a parcel",)


def test_a_quick_device_with_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    assert quick_config([], [], None, host="0.0.0.0", token_file=tmp_path / "token").server.token == "0123456789abcdef"
    with pytest.raises(InputError, match="--token-file: expected a file that can be read"):
        quick_config([], [], None, token_file=tmp_path / "none")
    with pytest.raises(InputError, match="token of at least"):
        quick_config([], [], None, host="0.0.0.0")
    with pytest.raises(InputError, match="rstp"):
        quick_config(["rstp://c/"], [], None)


def test_check_says_what_a_file_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "device.toml").write_text(TEXT)
    code, out, _ = run(capsys, folder / "device.toml", "--check")
    assert code == 0
    assert "can be used: 1 models, 2 sources, 0 zones, 0 triggers, 0 sinks" in out


def test_check_tells_every_mistake(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "device.toml").write_text(TEXT.replace("port", "prt").replace("url", "ulr", 1))
    code, _, err = run(capsys, folder / "device.toml", "--check")
    assert code == 4
    assert "device.toml:4: server.prt: " in err
    assert "device.toml:10: sources.front.ulr: " in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["device.toml", "--text", "red"], "--text goes without a device file"),
        (["device.toml", "--port", "0"], "--port goes without a device file"),
        (["--check"], "--check needs a device file"),
    ],
    ids=["text", "port", "check"],
)
def test_arguments_that_do_not_fit(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err


def test_without_the_extra_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = run(capsys)
    assert code == 6
    assert 'pip install "mmedge[serve]"' in err
