from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmedge.cli import checks


def test_every_extra_for_a_device_is_looked_at() -> None:
    """Those of pyproject.toml that bring a library to a device, and the distributions that they bring."""
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    table = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    looked_at = {(extra, distribution) for _, distribution, _, extra in checks._EXTRAS}
    for extra in ("serve", "mqtt", "mcap", "rerun", "ros2"):
        found = re.search(rf"^{extra} = \[(.*?)\]", table, re.DOTALL | re.MULTILINE)
        assert found, extra
        names = re.findall(r'"([A-Za-z0-9-]+)', found[1])
        assert names
        assert {(extra, name) for name in names} <= looked_at


@pytest.mark.parametrize(
    ("module", "distribution", "state", "found"),
    [
        ("numpy", "numpy", "ok", r"\d.*, for looking"),
        ("numpy", "no-such-distribution", "ok", "of unknown version, for looking"),
        ("no_such_module", "no-such-distribution", "absent", "for looking"),
    ],
)
def test_an_extra(module: str, distribution: str, state: str, found: str) -> None:
    check = checks._extra(module, distribution, "looking", "eyes")
    assert (check.name, check.state) == (distribution, state)
    assert re.fullmatch(found, check.found)
    assert check.advice == ("" if state == "ok" else 'pip install "mmedge[eyes]"')


def test_cameras_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("mmedge.sources.list_cameras", lambda: ["/dev/video0", "/dev/video2"])
    monkeypatch.setattr(checks.os, "access", lambda path, mode: True)  # type: ignore[attr-defined]
    monkeypatch.setattr(checks, "_CAMERA_NAMES", tmp_path)
    (tmp_path / "video0").mkdir()
    (tmp_path / "video0" / "name").write_text("HD Webcam\n")
    assert checks._cameras().found == "/dev/video0 (HD Webcam), /dev/video2"


@pytest.mark.parametrize(("there", "state"), [(True, "ok"), (False, "absent")])
def test_gstreamer(there: bool, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmedge.sources.gstreamer.has_gstreamer", lambda: there)
    check = checks._gstreamer()
    assert (check.name, check.state) == ("gstreamer", state)
    assert bool(check.advice) != there
