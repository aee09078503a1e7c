"""The bundle that a model has in use, and the settings that belong to it: what frames read, and who may replace it.

Frames take the lock of their own bundle only, which no change of prompts, tensors or bundle ever holds. So no frame
waits for anything but the frame before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from mmedge.errors import EngineError
from mmedge.loaded import Change, Loaded
from mmedge.results import Result
from mmedge.settings import Settings
from mmedge.sources.frame import Frame
from mmedge.swapping import carried_over


@dataclass(frozen=True)
class State:
    """All that a frame reads. Never changed, but replaced as a whole: no frame sees one bundle with the prompts of
    another."""

    loaded: Loaded
    settings: Settings


class InUse:
    """Holds one `State` until it is closed. Any thread may call any method."""

    def __init__(self, loaded: Loaded) -> None:
        self._name = loaded.manifest.name
        self._state: State | None = State(loaded, Settings(None if loaded.text is None else ()))
        self._settings = Settings(None)
        # It may be taken again by its own thread: a signal handler runs in the middle of whatever that does.
        self._replacing = threading.RLock()

    @property
    def state(self) -> State:
        """Raises EngineError once it is closed."""
        state = self._state
        if state is None:
            raise EngineError(f"the model {self._name} was closed; load it again")
        return state

    @property
    def settings(self) -> Settings:
        """Those in force, or the last ones of a model that was closed."""
        state = self._state
        return self._settings if state is None else state.settings

    def run(self, frames: Sequence[Frame]) -> list[Result]:
        """Answer frames with the bundle and the settings in use when their turn comes."""
        while True:
            loaded = self.state.loaded
            with loaded.running:
                state = self.state
                # Another bundle may have come during the wait for the frame before.
                if state.loaded is loaded:
                    return loaded.answer(frames, state.settings)

    def change(self, modality: Callable[[Loaded], str], prepare: Callable[[Loaded], Change]) -> None:
        """Replace the settings by what `prepare` gives, on the bundle that is in use by then."""
        while True:
            loaded = self.state.loaded
            with loaded.preparing[modality(loaded)]:
                if self.state.loaded is not loaded:
                    continue
                change = prepare(loaded)
                with self._replacing:
                    state = self.state
                    if state.loaded is loaded:
                        self._state = State(loaded, change(state.settings))
                        return

    def take(self, new: Loaded) -> Loaded:
        """Put another bundle in use with the prompts and tensors in force, and return the one from before.

        Raises:
            InputError, EngineError: As in `carried_over`; nothing was changed.
        """
        with ExitStack() as held:
            # Whoever changes prompts meanwhile waits for those in force to be prepared, not for the load.
            preparing = self.state.loaded.preparing
            for name in sorted(preparing):
                held.enter_context(preparing[name])
            while True:
                state = self.state
                settings = carried_over(state.settings, state.loaded, new)
                with self._replacing:
                    # A signal handler may have changed them in this very thread, and any thread may have closed it.
                    if self._state is state:
                        self._state, self._name = State(new, settings), new.manifest.name
                        return state.loaded

    def close(self) -> None:
        """Let go of the bundle after the frame that is running. Safe to call twice."""
        with self._replacing:
            state = self._state
            if state is None:
                return
            self._settings = replace(state.settings, inputs={}, tensors={}, moments={})
            self._state = None
        state.loaded.retire()
