"""What a device needs to know of its configuration when it starts and when it changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mmedge.device.config import DeviceConfig, ModelConfig
from mmedge.device.watch import Watch
from mmedge.errors import ConfigError, MmedgeError
from mmedge.sinks.sink import Control, SinkContext, Watched
from mmedge.triggers.settings import needed_prompts

if TYPE_CHECKING:
    from mmedge.model import Model


def load_model(config: ModelConfig) -> Model:
    """See `mmedge.load`."""
    from mmedge.model import load

    return load(config.path, **load_options(config))


def load_options(config: ModelConfig) -> dict[str, Any]:
    """The keyword arguments of `mmedge.load`, and of `Model.swap`."""
    return {
        "engine": config.engine,
        "precision": config.precision,
        "threads": config.threads,
        "threshold": config.threshold,
    }


def stamp_of(config: ModelConfig) -> object:
    """Something that differs where another bundle lies at the path, or the model is to be loaded in another way."""
    path = config.path
    if path is None:
        return (None, load_options(config))
    file = path / "manifest.json" if path.is_dir() else path
    try:
        found = file.stat()
    except OSError:
        return (path, None, load_options(config))
    return (path, found.st_mtime_ns, found.st_size, found.st_ino, load_options(config))


def first_prompts(config: DeviceConfig, model: str) -> tuple[str, ...]:
    """What a model is asked for at first: its own prompts and those of the triggers."""
    triggers = config.triggers_of(model)
    return tuple(dict.fromkeys((*config.models[model].prompts, *(trigger.prompt for trigger in triggers))))


def all_prompts(config: DeviceConfig, model: str, given: Sequence[str]) -> tuple[str, ...]:
    """What a model has to be asked for so that `given` can be answered: what triggers compare it with, too, and what
    is private."""
    triggers = [trigger for trigger in config.triggers_of(model) if trigger.prompt in given]
    return tuple(dict.fromkeys((*needed_prompts(triggers, given), *config.privacy.blur)))


def check_model(config: DeviceConfig, watch: Watch) -> None:
    """Whether a model can give what privacy and triggers need.

    Raises:
        ConfigError: It cannot.
    """
    name, privacy = watch.name, config.privacy
    if privacy.blur and not watch.takes_text:
        raise ConfigError(f"privacy.blur: models.{name} takes no text, so it cannot look for {privacy.blur[0]!r}")
    if privacy.blur and watch.task not in ("ground", "classify"):
        raise ConfigError(
            f"privacy.blur: expected a model that scores prompts, and the task of models.{name} is {watch.task!r}"
        )
    if privacy.blur and watch.task == "classify" and privacy.threshold is None:
        raise ConfigError(
            f"privacy.threshold: expected a score from which the picture is covered, because models.{name} finds no "
            "boxes, and it is missing"
        )
    if watch.takes_text and not first_prompts(config, name):
        raise ConfigError(f"models.{name}.prompts: expected at least one prompt, or a trigger with one, got none")
    if not watch.takes_text and config.models[name].prompts:
        raise ConfigError(f"models.{name}.prompts: expected none, because the model takes no text")
    for trigger in config.triggers_of(name):
        if watch.task not in ("ground", "classify"):
            raise ConfigError(
                f"triggers.{trigger.name}: expected a model that scores prompts, and the task of models.{name} is "
                f"{watch.task!r}"
            )
        if trigger.zone is not None and watch.task != "ground":
            raise ConfigError(f"triggers.{trigger.name}.zone: expected none, because models.{name} finds no boxes")


def with_activations(config: DeviceConfig, watches: Mapping[str, Watch]) -> DeviceConfig:
    """`config` with triggers that know what the scores of their models mean."""
    triggers = dict(config.triggers)
    for name, watch in watches.items():
        activation = watch.model.info()["task"].get("activation")
        if activation is not None and name in config.models:
            triggers |= {one.name: replace(one, activation=activation) for one in config.triggers_of(name)}
    return replace(config, triggers=triggers)


def named(what: str, call: Callable[[], Any]) -> Any:
    """What `call` returns; an error that it raises says what it is about.

    Raises:
        MmedgeError: Of the same class.
    """
    try:
        return call()
    except MmedgeError as error:
        if str(error).startswith(what) or isinstance(error, ConfigError):
            raise
        raise type(error)(f"{what}: {error}") from error


def context_of(config: DeviceConfig, watches: Mapping[str, Watch], control: Control) -> SinkContext:
    """What sinks may know."""
    sources = []
    for name, source in config.sources.items():
        watch = watches[source.model]
        sources.append(
            Watched(name, source.model, watch.model.prompts, _triggered(config, name), boxes=watch.task == "ground")
        )
    return SinkContext(config.name, tuple(sources), control, config.privacy.pixels)


def context_key(config: DeviceConfig, watches: Mapping[str, Watch]) -> object:
    """What of a `SinkContext` a sink is not told again: where it differs, the sink is opened anew."""
    sources = [
        (name, source.model, _triggered(config, name), watches[source.model].task if source.model in watches else None)
        for name, source in config.sources.items()
    ]
    return (config.name, config.privacy.pixels, sources)


def close_models(models: Iterable[Model], deadline: float) -> None:
    """Close models beside each other, by `deadline` on the monotonic clock; one whose engine hangs is left behind."""
    threads = [threading.Thread(target=model.close, name="mmedge close", daemon=True) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _triggered(config: DeviceConfig, source: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.prompt for one in config.triggers.values() if one.watches(source)))
