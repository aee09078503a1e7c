from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mmedge.device.config import DeviceConfig
from mmedge.device.keys import SCHEMA
from mmedge.device.lines import parse
from mmedge.sinks.opening import OPENERS

ROOT = Path(__file__).resolve().parents[3]
DOCS = (ROOT / "docs" / "device.md").read_text(encoding="utf-8")
DEPLOY = ROOT / "examples" / "deploy"


def documented() -> dict[str, dict[str, str]]:
    """By table: each key and what the documentation says is its default."""
    found: dict[str, dict[str, str]] = {}
    for section in re.split(r"^#+ ", DOCS, flags=re.MULTILINE):
        title = re.match(r"`\[([a-zA-Z.]+)\]`", section)
        if title:
            rows = re.findall(r"^\| (`[^|]+) \|([^|]*)\|", section, re.MULTILINE)
            found[title[1]] = {key: default.strip() for keys, default in rows for key in re.findall(r"`(\w+)`", keys)}
    return found


def test_every_key_is_documented_and_no_other() -> None:
    assert {table: set(keys) for table, keys in documented().items()} == {
        table: set(keys) for table, keys in SCHEMA.items()
    }


@pytest.mark.parametrize("table", list(SCHEMA))
def test_documented_defaults_are_those_of_the_code(table: str) -> None:
    for name, default in documented()[table].items():
        key = SCHEMA[table][name]
        if key.required:
            assert default == "–", name
        elif isinstance(key.default, (int, float)) and not isinstance(key.default, bool):
            assert float(default) == key.default, name
        elif isinstance(key.default, str):
            assert default.strip("`") == key.default, name
        elif isinstance(key.default, bool):
            assert default == str(key.default).lower(), name
        elif key.default is None:
            assert default in ("none", "all", "the only one"), name
        else:
            assert default.strip("`") in ("", "[]"), name


def test_every_kind_of_sink_is_documented() -> None:
    assert all(f"`{kind}`" in DOCS for kind in OPENERS)


def test_the_example_can_be_used() -> None:
    config = DeviceConfig.read(ROOT / "examples" / "device.toml")
    assert set(config.sources) == {"front", "back"}
    assert config.triggers
    assert config.zones
    assert config.sinks


def test_what_the_example_has_in_comments_can_be_used_too(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "device.toml").read_text(encoding="utf-8")
    # Lines such as `# key = value   # what it is`; prose has no equals sign.
    text = re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    (tmp_path / "tls").mkdir()
    for name in ("tls/cert.pem", "tls/key.pem", "prompts.txt", "token", "mqtt-password"):
        (tmp_path / name).write_text("0123456789abcdef\n")
    text = text.replace("/etc/mmedge/", "")
    (tmp_path / "device.toml").write_text(text, encoding="utf-8")
    config = DeviceConfig.read(tmp_path / "device.toml")
    assert config.server.token == "0123456789abcdef"
    assert config.sinks["home"].options["password"] == "0123456789abcdef"
    assert config.sources["front"].blur
    assert "0123456789abcdef" in config.models["table"].prompts


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # The programme lies somewhere else here.
    unit = (DEPLOY / "mmedge.service").read_text(encoding="utf-8").replace("/opt/mmedge/bin/mmedge", "/bin/true")
    (tmp_path / "mmedge.service").write_text(unit, encoding="utf-8")
    done = subprocess.run([analyze, "verify", tmp_path / "mmedge.service"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_container_file_names_what_there_is() -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    project = parse((ROOT / "pyproject.toml").read_text(encoding="utf-8"), "pyproject.toml")[0]["project"]
    [extras] = re.findall(r'"/src\[([a-z0-9,]+)\]"', text)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "serve" in extras
    assert project["scripts"]["mmedge"] == "mmedge.cli:main"
    assert re.search(r"^USER mmedge$", text, re.MULTILINE)
    assert "/healthz" in text
    [path] = re.findall(r"docker build -f (\S+)", text)
    assert (ROOT / path).samefile(DEPLOY / "Containerfile")


def test_the_unit_reads_the_file_again_with_the_signal_that_serve_knows() -> None:
    unit = (DEPLOY / "mmedge.service").read_text(encoding="utf-8")
    assert re.search(r"^ExecReload=/bin/kill -HUP \$MAINPID$", unit, re.MULTILINE)
    assert "SIGHUP" in (ROOT / "mmedge" / "cli" / "serve.py").read_text(encoding="utf-8")
