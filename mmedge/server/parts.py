"""What the routes of one server share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mmedge.device.status import RunningDevice
from mmedge.server.access import Access
from mmedge.server.hub import Hub
from mmedge.server.models import Problem
from mmedge.server.settings import ServerSettings


@dataclass(frozen=True)
class Parts:
    """The device, what is told about it, who may ask, and how many answers there were of each status."""

    device: RunningDevice
    settings: ServerSettings
    access: Access
    hub: Hub
    answers: Counter[int] = field(default_factory=Counter)


_REFUSALS = {
    400: "The request broke off, or its body is no JSON.",
    401: "The token is missing or wrong.",
    403: "The request comes from the page of another site, or calls the server by a name that is not its own.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    429: "Too many requests, or too many wrong tokens, from this address.",
}


def refusals(**more: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a route for its OpenAPI document: those that any may give, and `more`, as ``e404="…"``."""
    every = {**_REFUSALS, **{int(code[1:]): text for code, text in more.items()}}
    return {code: {"model": Problem, "description": text} for code, text in sorted(every.items())}
