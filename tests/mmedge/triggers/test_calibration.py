"""The file of a calibration."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmedge.errors import ConfigError, InputError
from mmedge.triggers.calibration import Calibration, load_calibration, save_calibration
from mmedge.triggers.settings import TriggerSettings
from mmedge.triggers.thresholds import PromptThresholds

CAT = PromptThresholds("a cat", ("a dog",), 0.6, 0.4, (0.5, 0.7), 0.1, 0.3, None, ("look at it",))
MADE = Calibration(
    "m", "rtsp://hall/1", datetime(2026, 1, 31, 12, tzinfo=timezone.utc), 30.0, 150, 0.1, 0.4, "sigmoid", (CAT,)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=3, unique=True))
def test_whatever_the_prompts_are_they_come_back(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "c.toml"
    made = replace(MADE, source=texts[0], prompts=(replace(CAT, prompt=texts[0], negatives=tuple(texts[1:])),))
    save_calibration(made, path)
    assert load_calibration(path) == made
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.toml"]


def test_a_trigger_takes_what_it_does_not_say_itself() -> None:
    found = MADE.apply(TriggerSettings("cat", "a cat", cool_down=5))
    assert (found.on, found.off, found.negatives, found.activation, found.cool_down) == (
        0.6, 0.4, ("a dog",), "sigmoid", 5,
    )  # fmt: skip
    own = TriggerSettings("cat", "a cat", on=0.9)
    assert MADE.apply(own) == own


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (TriggerSettings("cat", "a hat"), r"prompt must be one of the calibration's \('a cat'\), got 'a hat'"),
        (TriggerSettings("cat", "a cat", negatives=()), r"negatives must be those of the calibration, \['a dog'\]"),
        (TriggerSettings("cat", "a cat", min_duration=0.1), "min_duration must be at least the calibration's, 0.4 s"),
    ],
    ids=["prompt", "negatives", "min_duration"],
)
def test_a_trigger_that_the_thresholds_are_not_for_is_refused(trigger: TriggerSettings, words: str) -> None:
    with pytest.raises(InputError, match=f"trigger 'cat': {words}"):
        MADE.apply(trigger)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("on = 0.6", "on = true", r"15: prompt\[0\].on must be a number, got True"),
        ("on = 0.6", "on = inf", r"15: prompt\[0\].on must be finite"),
        ("on = 0.6", "no = 0.6", r"15: prompt\[0\].no is unknown; expected one of text"),
        ("on = 0.6\n", "", r"12: prompt\[0\].on is missing \(expected a number\)"),
        ("off = 0.4", "off = 0.9", r"16: prompt\[0\].off must be at most on, 0.6, got 0.9"),
        ('["a dog"]', '["a dog", 3]', r"14: prompt\[0\].negatives must be a list of texts"),
        ("[0.5, 0.7]", "[0.5]", r"17: prompt\[0\].on_range must be two numbers"),
        ("[[prompt]]", "[prompt]", "12: prompt must be tables"),
        ("format = 1", "format = 2", "2: format must be 1, got 2; calibrate again"),
        ('"sigmoid"', '"relu"', "10: activation must be one of softmax, sigmoid, none, got 'relu'"),
        ("2026-01-31T", "yesterday", "5: made_at must be a moment"),
        ("frames = 150", "frames = ", "7: expected TOML"),
    ],
)
def test_an_error_names_line_and_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "c.toml"
    save_calibration(MADE, path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"c.toml:{words}"):
        load_calibration(path)


def test_a_prompt_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    save_calibration(replace(MADE, prompts=(CAT, CAT)), tmp_path / "c.toml")
    with pytest.raises(ConfigError, match=r"prompt\[1\].text is there twice: 'a cat'"):
        load_calibration(tmp_path / "c.toml")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_calibration(tmp_path / "missing.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read as UTF-8"):
        load_calibration(tmp_path / "binary")
    (tmp_path / "huge").write_text("#" * 1_000_001, encoding="utf-8")
    with pytest.raises(ConfigError, match="larger than 1000000 bytes"):
        load_calibration(tmp_path / "huge")
    with pytest.raises(ConfigError, match="cannot be written"):
        save_calibration(MADE, tmp_path / "missing" / "c.toml")
