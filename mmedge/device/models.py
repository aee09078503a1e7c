"""The models of a device: loading, swapping and asking them, each change with its way back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from mmedge.device.config import DeviceConfig, ModelConfig
from mmedge.device.parts import (
    all_prompts,
    check_model,
    close_models,
    first_prompts,
    load_model,
    load_options,
    named,
    stamp_of,
)
from mmedge.device.schema import nearest
from mmedge.device.watch import Receiver, Watch
from mmedge.errors import InputError, MmedgeError

_log = logging.getLogger("mmedge")


class Models:
    """Models by their names. `prepare` and `settle` are called by one thread at a time, the rest by any.

    Args:
        config: The device.
        receiver: Is told what happens.
        lock: See `Watch`.
    """

    def __init__(self, config: DeviceConfig, receiver: Receiver, lock: threading.RLock) -> None:
        self._config = config
        self._receiver = receiver
        self._lock = lock
        self._watches: dict[str, Watch] = {}
        self._stamps: dict[str, object] = {}
        self._loaded: dict[str, ModelConfig] = {}
        # What the file asked for, and what is asked for since somebody changed it.
        self._first: dict[str, tuple[str, ...]] = {}
        self._given: dict[str, tuple[str, ...]] = {}

    @property
    def watches(self) -> Mapping[str, Watch]:
        """By the names of the models."""
        # Replaced as a whole, never changed.
        return self._watches

    def set_prompts(self, name: str, prompts: Sequence[str]) -> int:
        """Ask a model for `prompts`, for what triggers compare them with, and for what is private.

        Raises:
            InputError: There is no such model, or the prompts cannot be used; the old ones stay.
            PromptGrammarError, EngineError: As `Model.set_text`.
        """
        watch = self._watches.get(name)
        if watch is None:
            raise InputError(f"there is no model {name!r}; {nearest(str(name), self._watches)}")
        if isinstance(prompts, str) or not isinstance(prompts, Sequence):
            raise InputError(f"prompts must be a list of texts, got {type(prompts).__name__}")
        with watch.setting:
            try:
                given = tuple(dict.fromkeys(prompts))
                version = watch.set_prompts(all_prompts(self._config, name, given) if given else given)
            except MmedgeError as error:
                watch.refused = f"prompts: {error}"
                raise
            watch.refused, self._given[name] = None, given
            return version

    def prepare(self, config: DeviceConfig, undo: ExitStack) -> None:
        """Load, swap and ask models as `config` wants them; `undo` takes it back.

        Sources are watched as before until `settle`.

        Raises:
            MmedgeError: A model cannot be loaded, or not be asked for its prompts.
        """
        for name in config.models:
            (self._swap if name in self._watches else self._load)(name, config, undo)
        undo.callback(setattr, self, "_config", self._config)
        self._config = config
        for name in config.models:
            self._ask(self._watches[name], config, undo)

    def settle(self, config: DeviceConfig) -> None:
        """Watch the sources that `config` names, and let go of models that it does not. Nothing in it fails."""
        gone = [watch for name, watch in self._watches.items() if name not in config.models]
        self._watches = {name: watch for name, watch in self._watches.items() if name in config.models}
        stop(gone, time.monotonic() + 2.0)
        # A source may go from one model to another: first everybody lets go.
        wanted = {
            name: {source: config.sources[source].options for source in config.watched_by(name)}
            for name in self._watches
        }
        for name, watch in self._watches.items():
            watch.leave(wanted[name])
        for name, watch in self._watches.items():
            watch.watch(wanted[name])

    def _load(self, name: str, config: DeviceConfig, undo: ExitStack) -> None:
        model = named(f"models.{name}", lambda: load_model(config.models[name]))
        undo.callback(model.close)
        undo.callback(setattr, self, "_watches", self._watches)
        watch = Watch(name, model, config.watched_by(name), self._receiver, self._lock)
        self._watches = {**self._watches, name: watch}
        self._stamps[name], self._loaded[name] = stamp_of(config.models[name]), config.models[name]
        self._first.pop(name, None)

    def _swap(self, name: str, config: DeviceConfig, undo: ExitStack) -> None:
        new, old = config.models[name], self._loaded[name]
        stamp = stamp_of(new)
        if stamp == self._stamps[name]:
            return
        watch, before = self._watches[name], self._stamps[name]
        named(f"models.{name}", lambda: watch.swap(lambda: watch.model.swap(new.path, **load_options(new))))
        self._stamps[name], self._loaded[name] = stamp, new
        undo.callback(self._swap_back, watch, old, before)

    def _swap_back(self, watch: Watch, old: ModelConfig, stamp: object) -> None:
        try:
            watch.swap(lambda: watch.model.swap(old.path, **load_options(old)))
        except MmedgeError as error:
            # Such as when the new bundle was written over the old one.
            _log.error("models.%s: the bundle from before cannot be loaded again: %s", watch.name, error)
        else:
            self._stamps[watch.name], self._loaded[watch.name] = stamp, old

    def _ask(self, watch: Watch, config: DeviceConfig, undo: ExitStack) -> None:
        check_model(config, watch)
        name, first = watch.name, first_prompts(config, watch.name)
        with watch.setting:
            old = self._first.get(name), self._given.get(name, first)
            # Prompts that somebody set meanwhile stay unless the file says something else now.
            given = first if first != old[0] else old[1]
            before, wanted = watch.model.prompts, all_prompts(config, name, given)
            if watch.takes_text and wanted != before:
                named(f"models.{name}", lambda: watch.set_prompts(wanted))
                if before:
                    undo.callback(watch.set_prompts, before)
            self._first[name], self._given[name] = first, given
            if old[0] is not None:
                undo.callback(self._first.__setitem__, name, old[0])
                undo.callback(self._given.__setitem__, name, old[1])


def stop(watches: Sequence[Watch], deadline: float) -> None:
    """End streams and close their models beside each other, by `deadline` on the monotonic clock."""
    for watch in watches:
        watch.ask_to_stop()
    for watch in watches:
        watch.stop(deadline)
    close_models([watch.model for watch in watches], max(deadline, time.monotonic() + 0.2))
