"""What a device file says, checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmedge.device.secrets import Secrets
from mmedge.server.settings import ServerSettings
from mmedge.streaming.options import SourceOptions
from mmedge.triggers.settings import TriggerSettings, Zone

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1."""

SHOWN = ("the red cube", "the blue ball", "the yellow thing")
"""What the built-in model is asked for where nobody says anything about models."""


@dataclass(frozen=True)
class ModelConfig:
    """One model.

    Attributes:
        bundle: ``NAME.mmedge``; ``tabletop`` for the built-in one.
        prompts: What to look for. Those of triggers and of privacy are added to them.
        prompt_file: A file with further prompts, one a line.
        engine, precision, threads, threshold: As for `mmedge.load`.
    """

    bundle: str = "tabletop"
    prompts: tuple[str, ...] = ()
    prompt_file: str | None = None
    engine: str | Mapping[str, str] = "auto"
    precision: str | None = None
    threads: int | None = None
    threshold: float | None = None

    @property
    def path(self) -> Path | None:
        """Of the bundle; None for the built-in one."""
        return None if self.bundle == "tabletop" else Path(self.bundle)


@dataclass(frozen=True)
class SourceConfig:
    """One source.

    Attributes:
        options: How it is opened and watched; `options.source` may hold a password.
        model: Name of the model that watches it.
        blur: Parts of its picture, in 0..1 of width and height, that are never shown.
    """

    options: SourceOptions = field(repr=False)
    model: str
    blur: tuple[Box, ...] = ()


@dataclass(frozen=True)
class PrivacyConfig:
    """What must not be seen.

    Attributes:
        blur: Prompts whose finds are covered before anything leaves the process. The models are asked for them, too.
        pixels: False: no picture is ever stored or sent.
        threshold: Score of such a prompt from which it is covered. Where a model finds no box for it, or none that
            good, the whole picture is. None: the threshold of the model's boxes.
        hold: Seconds for which a place stays covered after the last find there.
        margin: By how much of its width and height a box is grown on each side.
    """

    blur: tuple[str, ...] = ()
    pixels: bool = True
    threshold: float | None = None
    hold: float = 1.0
    margin: float = 0.2


@dataclass(frozen=True)
class SinkConfig:
    """One sink.

    Attributes:
        kind: As for `mmedge.sinks.opening.open_sink`.
        options: Likewise. May hold passwords.
        capacity: Of the queue before it.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    capacity: int = 64


@dataclass(frozen=True)
class DeviceConfig:
    """A whole device.

    Attributes:
        name: Of the device.
        models, sources, sinks: By their names.
        triggers: With their thresholds, from a calibration or their own.
        zones: By their names.
        privacy: What must not be seen.
        server: None in a device that is not served.
        secrets: What must not be told.
    """

    models: Mapping[str, ModelConfig]
    sources: Mapping[str, SourceConfig]
    name: str = "mmedge"
    zones: Mapping[str, Zone] = field(default_factory=dict)
    triggers: Mapping[str, TriggerSettings] = field(default_factory=dict)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    sinks: Mapping[str, SinkConfig] = field(default_factory=dict)
    server: ServerSettings = field(default_factory=ServerSettings)
    secrets: Secrets = field(default_factory=Secrets, repr=False, compare=False)

    @staticmethod
    def read(path: str | os.PathLike[str]) -> DeviceConfig:
        """The device of a TOML file; docs/device.md names its keys.

        Raises:
            ConfigError: It cannot be read, or something in it cannot be used. Each line names line and key.
        """
        from mmedge.device.reading import read_config

        return read_config(Path(path))

    def watched_by(self, model: str) -> tuple[str, ...]:
        """Names of the sources that a model watches."""
        return tuple(name for name, source in self.sources.items() if source.model == model)

    def triggers_of(self, model: str) -> tuple[TriggerSettings, ...]:
        """The triggers that look at a source of a model."""
        sources = self.watched_by(model)
        return tuple(one for one in self.triggers.values() if any(one.watches(source) for source in sources))
