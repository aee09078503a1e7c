"""Log lines about things that may happen with every frame."""

from __future__ import annotations

import logging
import time

EVERY_S = 10.0


class Limited:
    """Logs the first messages, and then one every 10 seconds that says how many there were in between.

    Args:
        log: Where to.
        level: As in `logging`.
        burst: So many messages in a row pass.
    """

    def __init__(self, log: logging.Logger, level: int = logging.WARNING, burst: int = 1) -> None:
        self._log = log
        self._level = level
        self._burst = burst
        self._tokens = float(burst)
        self._last = time.monotonic()
        self._held_back = 0

    def __call__(self, message: str, error: BaseException | None = None) -> None:
        """Log `message`, with the trace of `error`."""
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._last) / EVERY_S, self._burst)
        self._last = now
        if self._tokens < 1:
            self._held_back += 1
            return
        self._tokens -= 1
        more = f" ({self._held_back} more like this since the last line)" if self._held_back else ""
        self._log.log(self._level, "%s%s", message, more, exc_info=error)
        self._held_back = 0
