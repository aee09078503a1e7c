"""Commands that change prompts, one at a time and not too often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from mmedge.errors import InputError, MmedgeError
from mmedge.sinks.prompts import parse_prompts
from mmedge.sinks.sink import Control
from mmedge.sources.spec import error_words

_log = logging.getLogger("mmedge")

_BURST = 10
_EVERY_S = 1.0
_LONGEST_ERROR = 300

Changed = Callable[[str, tuple[str, ...], int], None]
Refused = Callable[[str, str], None]


class Commands:
    """Carries out commands in a thread of its own: new prompts take as long as the text encoder.

    While one is under way the newest for each model waits, and older ones are forgotten. Ten may come at once, and one
    a second after that; more are passed over without an answer.

    Args:
        control: Carries them out.
        changed: Told of new prompts: model, prompts, version. Raises nothing.
        refused: Told why there are none: model, reason. Raises nothing.
    """

    def __init__(self, control: Control, changed: Changed, refused: Refused) -> None:
        self._control = control
        self._changed = changed
        self._refused = refused
        self._pending: dict[str, tuple[bytes, bool]] = {}
        self._condition = threading.Condition()
        self._closed = False
        self._tokens, self._filled = float(_BURST), time.monotonic()
        self._thread = threading.Thread(target=self._work, name="mmedge commands", daemon=True)
        self._thread.start()

    def put(self, model: str, payload: bytes, retained: bool) -> None:
        """A command has come. Returns at once, whatever it holds."""
        with self._condition:
            if self._closed or not self._take_token():
                return
            self._pending[model] = (payload, retained)
            self._condition.notify()

    def close(self, timeout: float = 0.2) -> None:
        """Carry out no more commands."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join(timeout)

    def _take_token(self) -> bool:
        now = time.monotonic()
        self._tokens = min(float(_BURST), self._tokens + (now - self._filled) / _EVERY_S)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._pending and not self._closed:
                    self._condition.wait()
                if self._closed:
                    return
                model = next(iter(self._pending))
                payload, retained = self._pending.pop(model)
            self._carry_out(model, payload, retained)

    def _carry_out(self, model: str, payload: bytes, retained: bool) -> None:
        try:
            if retained:
                # It would come again with every connect, and undo what was set since.
                raise InputError("a command must not be retained; publish it without the retain flag")
            prompts = parse_prompts(payload)
            version = self._control.set_prompts(model, prompts)
        except MmedgeError as error:
            self._refused(model, " ".join(error_words(error).split())[:_LONGEST_ERROR])
        except Exception:
            _log.exception("prompts for model %s", model)
            self._refused(model, "the prompts could not be set; the log of the device says why")
        else:
            self._changed(model, tuple(prompts), version)
