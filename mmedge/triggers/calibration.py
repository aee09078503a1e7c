"""Thresholds that were set from a background clip, as a file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

from mmedge.device.lines import LineIndex, parse
from mmedge.errors import ConfigError, InputError
from mmedge.streaming.states import utc_text
from mmedge.triggers.settings import Activation, TriggerSettings
from mmedge.triggers.thresholds import PromptThresholds

FORMAT = 1
_LARGEST_BYTES = 1_000_000


@dataclass(frozen=True)
class Calibration:
    """Thresholds of some prompts for a model in front of a camera.

    Attributes:
        model: Name of the bundle.
        source: Name of the source, passwords masked.
        made_at: When, in UTC.
        seconds, frames: Length of the clip.
        false_alarms_per_hour: What the thresholds aim at, for each prompt.
        min_duration: Triggers have to last at least as long, in seconds.
        activation: Of a classify task, see `TriggerSettings`.
        prompts: What was found; prompts for which no thresholds were found are left out.
    """

    model: str
    source: str
    made_at: datetime
    seconds: float
    frames: int
    false_alarms_per_hour: float
    min_duration: float
    activation: Activation
    prompts: tuple[PromptThresholds, ...]

    def apply(self, trigger: TriggerSettings) -> TriggerSettings:
        """`trigger` with the thresholds and negatives of its prompt. What it says itself stays.

        Raises:
            InputError: It has no `on` and its prompt is none of `prompts`; it has other negatives than those that the
                thresholds were set with; or its `min_duration` is shorter.
        """
        if trigger.on is not None:
            return trigger
        where = f"trigger {trigger.name!r}"
        found = next((entry for entry in self.prompts if entry.prompt == trigger.prompt), None)
        if found is None:
            known = ", ".join(repr(entry.prompt) for entry in self.prompts) or "none"
            raise InputError(
                f"{where}: prompt must be one of the calibration's ({known}), got {trigger.prompt!r}; run "
                "`mmedge calibrate` for it, or give `on`"
            )
        if trigger.negatives is not None and set(trigger.negatives) != set(found.negatives):
            raise InputError(
                f"{where}: negatives must be those of the calibration, {list(found.negatives)}, or be left out; got "
                f"{list(trigger.negatives)}"
            )
        if trigger.min_duration < self.min_duration:
            raise InputError(
                f"{where}: min_duration must be at least the calibration's, {self.min_duration:g} s, got "
                f"{trigger.min_duration:g}"
            )
        return replace(trigger, on=found.on, off=found.off, negatives=found.negatives, activation=self.activation)

    def to_toml(self) -> str:
        """The text of the file."""
        lines = ["# Thresholds of triggers, set from a clip of the background by `mmedge calibrate`."]
        lines += [
            f"{key} = {_toml(value)}"
            for key, value in (
                ("format", FORMAT),
                ("model", self.model),
                ("source", self.source),
                ("made_at", utc_text(self.made_at)),
                ("seconds", round(self.seconds, 3)),
                ("frames", self.frames),
                ("false_alarms_per_hour", self.false_alarms_per_hour),
                ("min_duration", self.min_duration),
                ("activation", self.activation),
            )
        ]
        for entry in self.prompts:
            lines += ["", "[[prompt]]"]
            lines += [f"{key} = {_toml(value)}" for key, value in prompt_values(entry).items()]
        return "\n".join(lines) + "\n"


def prompt_values(entry: PromptThresholds) -> dict[str, Any]:
    """The fields of an entry as the file and the JSON name them."""
    value: dict[str, Any] = {"text": entry.prompt, "negatives": list(entry.negatives)}
    if entry.refused is None:
        value |= {"on": round(entry.on, 6), "off": round(entry.off, 6)}
    value |= {
        "on_range": [round(bound, 6) for bound in entry.on_range],
        "typical": round(entry.typical, 6),
        "highest": round(entry.highest, 6),
    }
    if entry.warnings:
        value["warnings"] = list(entry.warnings)
    return value if entry.refused is None else {**value, "refused": entry.refused}


def save_calibration(calibration: Calibration, path: str | os.PathLike[str]) -> None:
    """Write the file; under its name there is at any time the old one or the new one as a whole.

    Raises:
        ConfigError: It cannot be written.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_text(calibration.to_toml(), encoding="utf-8")
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(f"{target} cannot be written: {error.strerror or error}; give another --out") from error


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read a file of `save_calibration`.

    Raises:
        ConfigError: It cannot be read, or a value is none; names file, line and key.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"calibration {os.fspath(path)} cannot be read as UTF-8 text: {error}") from error
    if len(data) > _LARGEST_BYTES:
        raise ConfigError(f"calibration {os.fspath(path)} is larger than {_LARGEST_BYTES} bytes; is it the right file?")
    values, lines = parse(text, os.fspath(path))
    reader = _Reader(os.fspath(path), lines)
    reader.known(values, (), _TOP)
    if reader.number(values, (), "format") != FORMAT:
        raise reader.error(("format",), f"must be {FORMAT}, got {values['format']!r}; calibrate again")
    prompts = tuple(_prompt(reader, entry, ("prompt", i)) for i, entry in enumerate(reader.tables(values, "prompt")))
    twice = [i for i, entry in enumerate(prompts) if entry.prompt in [other.prompt for other in prompts[:i]]]
    if twice:
        raise reader.error(("prompt", twice[0], "text"), f"is there twice: {prompts[twice[0]].prompt!r}")
    return Calibration(
        model=reader.text(values, (), "model"),
        source=reader.text(values, (), "source"),
        made_at=reader.moment(values, "made_at"),
        seconds=reader.number(values, (), "seconds"),
        frames=int(reader.number(values, (), "frames")),
        false_alarms_per_hour=reader.number(values, (), "false_alarms_per_hour"),
        min_duration=reader.number(values, (), "min_duration"),
        activation=reader.activation(values),
        prompts=prompts,
    )


_TOP = (
    "format", "model", "source", "made_at", "seconds", "frames", "false_alarms_per_hour", "min_duration", "activation",
    "prompt",
)  # fmt: skip
_PROMPT = ("text", "negatives", "on", "off", "on_range", "typical", "highest", "warnings")
_Place = tuple["str | int", ...]


def _prompt(reader: _Reader, value: Mapping[str, Any], place: _Place) -> PromptThresholds:
    reader.known(value, place, _PROMPT)
    on, off = reader.number(value, place, "on"), reader.number(value, place, "off")
    if off > on:
        raise reader.error((*place, "off"), f"must be at most on, {on!r}, got {off!r}")
    low, high = reader.list_of(value, place, "on_range", (int, float), "two numbers", length=2)
    return PromptThresholds(
        prompt=reader.text(value, place, "text"),
        negatives=tuple(reader.list_of(value, place, "negatives", str, "a list of texts")),
        on=on,
        off=off,
        on_range=(float(low), float(high)),
        typical=reader.number(value, place, "typical"),
        highest=reader.number(value, place, "highest"),
        warnings=tuple(reader.list_of(value, place, "warnings", str, "a list of texts")) if "warnings" in value else (),
    )


class _Reader:
    """Values of the file by key; errors name file, line and key."""

    def __init__(self, name: str, lines: LineIndex) -> None:
        self._name = name
        self._lines = lines

    def error(self, place: _Place, what: str) -> ConfigError:
        return ConfigError(f"{self._name}:{self._lines.line(place)}: {_shown(place)} {what}")

    def known(self, value: Mapping[str, Any], place: _Place, names: tuple[str, ...]) -> None:
        for name in value:
            if name not in names:
                raise self.error((*place, name), f"is unknown; expected one of {', '.join(names)}")

    def _take(self, value: Mapping[str, Any], place: _Place, key: str, kind: Any, expected: str) -> Any:
        if key not in value:
            raise self.error((*place, key), f"is missing (expected {expected})")
        taken = value[key]
        if not isinstance(taken, kind) or (isinstance(taken, bool) and kind is not bool):
            raise self.error((*place, key), f"must be {expected}, got {taken!r:.80}")
        return taken

    def text(self, value: Mapping[str, Any], place: _Place, key: str) -> str:
        text: str = self._take(value, place, key, str, "a text")
        return text

    def number(self, value: Mapping[str, Any], place: _Place, key: str) -> float:
        number = float(self._take(value, place, key, (int, float), "a number"))
        if not math.isfinite(number):
            raise self.error((*place, key), f"must be finite, got {number!r}")
        return number

    def activation(self, value: Mapping[str, Any]) -> Activation:
        expected = f"one of {', '.join(get_args(Activation))}"
        activation: Activation = self._take(value, (), "activation", str, expected)
        if activation not in get_args(Activation):
            raise self.error(("activation",), f"must be {expected}, got {activation!r}")
        return activation

    def moment(self, value: Mapping[str, Any], key: str) -> datetime:
        text = self._take(value, (), key, str, "a moment such as 2026-01-31T12:00:00Z")
        try:
            # Python 3.10 does not know the Z.
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError as error:
            raise self.error((key,), f"must be a moment such as 2026-01-31T12:00:00Z, got {text!r}") from error
        return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)

    def list_of(
        self, value: Mapping[str, Any], place: _Place, key: str, kind: Any, expected: str, length: int | None = None
    ) -> list[Any]:
        items: list[Any] = self._take(value, place, key, list, expected)
        wrong = any(not isinstance(item, kind) or isinstance(item, bool) for item in items)
        if wrong or length not in (None, len(items)):
            raise self.error((*place, key), f"must be {expected}, got {items!r:.80}")
        return items

    def tables(self, value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
        return self.list_of({key: value.get(key, [])}, (), key, dict, "tables [[prompt]]")


def _shown(place: _Place) -> str:
    """``prompt[1].on`` of ("prompt", 1, "on")."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _toml(value: Any) -> str:
    # A JSON string is a TOML string, but for the one control character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
