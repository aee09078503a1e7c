"""``mmedge calibrate``, with the built-in model on the built-in camera."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from support.command import Mmedge, Outcome

from mmedge.cli.calibrate import calibrate
from mmedge.cli.exits import ErrorGroup
from mmedge.triggers.calibration import load_calibration
from mmedge.triggers.settings import TriggerSettings
from mmedge.triggers.trigger_set import TriggerSet

SOURCE = "tabletop://?seed=5&live=0&width=160&height=120&fps=3&frames={}"


@pytest.fixture
def mmedge(capsys: pytest.CaptureFixture[str]) -> Mmedge:
    app = typer.Typer(cls=ErrorGroup)
    app.command()(calibrate)
    app.command("other")(lambda: None)

    def run(*arguments: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as left:
            app(["calibrate", *map(str, arguments)], prog_name="mmedge")
        printed = capsys.readouterr()
        return Outcome(int(left.value.code or 0), printed.out, printed.err)

    return run


def test_a_clip_becomes_thresholds_that_a_trigger_takes(mmedge: Mmedge, tmp_path: Path) -> None:
    out = tmp_path / "hall.toml"
    # What is there in this scene, and what is not.
    arguments = (
        "--text",
        "the green cube",
        "--text",
        "a thing",
        "--negative",
        "the green pyramid",
        "--seconds",
        "12",
    )
    done = mmedge(SOURCE.format(60), *arguments, "--out", out, "--json")
    assert done.code == 1, "there is no threshold for a thing that is there all the time"
    report = json.loads(done.out)
    assert (report["frames"], report["seconds"], report["model"]) == (37, 12.0, "tabletop")
    cube, thing = report["prompts"]
    assert thing["refused"].startswith("the background scores up to 0.9")
    assert "on" not in thing
    assert cube["on"] >= 0.5
    assert cube["warnings"][0].startswith("12 s are a short clip")

    found = load_calibration(out)
    assert [entry.prompt for entry in found.prompts] == ["the green cube"]
    trigger = found.apply(TriggerSettings("cube", "the green cube"))
    assert trigger.negatives == ("the green pyramid",)
    assert TriggerSet([trigger]).active == {"cube": ()}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param((SOURCE.format(9),), 2, "needs at least one prompt", id="no-prompt"),
        pytest.param((SOURCE.format(9), "--text", "a cone"), 4, "must be 10.4 s and longer", id="short-clip"),
        pytest.param(
            (SOURCE.format(9), "--text", "a", "--out", "no/c.toml"), 2, "there is no such folder", id="folder"
        ),
        pytest.param(("nowhere.mp4", "--text", "a cone"), 5, "nowhere.mp4", id="no-source"),
        pytest.param((SOURCE.format(9), "--text", "a", "--seconds", "5"), 2, "12", id="seconds"),
    ],
)
def test_what_cannot_be_done_is_said(mmedge: Mmedge, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = mmedge(*arguments)
    assert done.code == code, done.err
    assert words in done.err
    assert "Traceback" not in done.err
