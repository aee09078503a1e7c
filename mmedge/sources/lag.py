"""How far behind a live stream is by the time its frames arrive."""

from __future__ import annotations

import math

_DRIFT = 1e-4
"""How far two ordinary quartz clocks drift apart, seconds a second. Without this allowance a camera whose clock is slow
would look late after some hours; with it, a lag that stays the same is forgotten at 0.36 seconds an hour."""

_CLOCK_SET_BACK_S = 1.0
"""Frames may come out of order by less than this; a time stamp further back means that the stream's clock was set."""


class Lag:
    """Compares the stream's own clock with ours.

    The frame that came soonest after its time stamp sets what no lag is; one that comes later than that, by the time
    stamps, waited in a decoder or a socket.

    Args:
        began: When the stream was running already, seconds of the monotonic clock, for streams whose time stamps start
            at 0; None where they start anywhere. It finds the lag that was there before the first frame was read.
    """

    def __init__(self, began: float | None = None) -> None:
        self._soonest = math.inf if began is None else began
        self._place = 0.0
        self._moment = 0.0
        self._lag = 0.0

    def of(self, place: float, now: float) -> float:
        """Seconds by which the frame with the time stamp `place` (seconds) is late at the moment `now`.

        A time stamp of 0 or less is none, and one that does not advance tells nothing: the lag is then taken to be that
        of the frame before.
        """
        if place <= 0 or self._place - _CLOCK_SET_BACK_S < place <= self._place:
            return self._lag
        if place <= self._place:
            self._soonest = now - place - self._lag
        else:
            drift = _DRIFT * (now - self._moment) if self._moment else 0.0
            self._soonest = min(self._soonest + drift, now - place)
        self._place, self._moment = place, now
        self._lag = now - place - self._soonest
        return self._lag
