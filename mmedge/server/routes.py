"""REST: status, sources, prompts, events, and their pictures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from mmedge.errors import InputError, MmedgeError
from mmedge.server.gate import RefusedError
from mmedge.server.hub import event_json
from mmedge.server.models import DeviceStatus, EventMessage, ModelStatus, Prompts, PromptsBody, SourceStatus
from mmedge.server.parts import Parts, refusals
from mmedge.server.pictures import Shot, offered_width

T = TypeVar("T")

_MOST_EVENTS = 500
_MOST_WAITING = 4

Width = Annotated[int | None, Query(ge=16, le=10_000, description="Of the picture, rounded up to an offered width.")]
Drawn = Annotated[bool, Query(description="With the result drawn on it.")]
Limit = Annotated[int, Query(ge=1, le=_MOST_EVENTS)]

_JPEG: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A JPEG file. `X-State` is the state of the source now, for events that of the result.",
        "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "X-State": {"schema": {"type": "string"}},
            "X-Frame": {"schema": {"type": "integer"}},
            "X-Age-Ms": {"schema": {"type": "number"}},
        },
    }
}
_NO_PICTURE = "No picture is kept: no pixels leave this device, or the model takes no frames."


class Changes:
    """Changes of prompts. Each takes a text encoder, so few may wait."""

    def __init__(self, parts: Parts) -> None:
        self._hub = parts.hub
        self._waiting = 0

    async def put(self, model: str, prompts: Sequence[str]) -> int:
        if self._waiting >= _MOST_WAITING:
            raise RefusedError(503, "other changes of prompts are waiting; try again", **{"retry-after": "1"})
        self._waiting += 1
        try:
            return await self._hub.set_prompts(model, prompts)
        except InputError as error:
            raise RefusedError(422, str(error)) from error
        except MmedgeError as error:
            raise RefusedError(503, str(error)) from error
        finally:
            self._waiting -= 1


def rest(parts: Parts) -> APIRouter:
    """All routes under ``/api/v1`` but those of the session."""
    router = APIRouter()
    _status_routes(router, parts)
    _prompts_routes(router, parts)
    _event_routes(router, parts)
    _picture_routes(router, parts)
    return router


def _status_routes(router: APIRouter, parts: Parts) -> None:
    status = parts.hub.read_status

    @router.get("/status", responses=refusals(), tags=["device"])
    async def read_status() -> DeviceStatus:
        """Everything there is to know about the device."""
        return await status()

    @router.get("/sources", responses=refusals(), tags=["sources"])
    async def read_sources() -> dict[str, SourceStatus]:
        """All sources by name."""
        return (await status()).sources

    @router.get("/sources/{name}", responses=refusals(e404="There is no such source."), tags=["sources"])
    async def read_source(name: str) -> SourceStatus:
        """One source."""
        return _found((await status()).sources, name, "source")


def _prompts_routes(router: APIRouter, parts: Parts) -> None:
    status, changes = parts.hub.read_status, Changes(parts)
    path, missing = "/models/{name}/prompts", "There is no such model."

    @router.get(path, responses=refusals(e404=missing), tags=["models"])
    async def read_prompts(name: str) -> Prompts:
        """The prompts in force."""
        return _prompts(name, _found((await status()).models, name, "model"))

    answers = refusals(
        e404=missing,
        e422="The prompts cannot be used; the old ones stay in force.",
        e503="The model failed at them, or other changes are waiting; the old ones stay in force.",
    )

    @router.put(path, responses=answers, tags=["models"])
    async def write_prompts(name: str, body: PromptsBody) -> Prompts:
        """Put other prompts in force, from one frame to the next; the answer comes when they are."""
        _found((await status()).models, name, "model")
        version = await changes.put(name, body.prompts)
        return Prompts(model=name, prompts=body.prompts, version=version)


def _event_routes(router: APIRouter, parts: Parts) -> None:
    @router.get("/events", responses=refusals(e422="`limit` cannot be used."), tags=["events"])
    async def read_events(limit: Limit = 100) -> list[EventMessage]:
        """The last happenings, newest first."""
        events = await run_in_threadpool(parts.device.events, limit)
        return [EventMessage.model_validate(event_json(event)) for event in events]


def _picture_routes(router: APIRouter, parts: Parts) -> None:
    source_answers = refusals(
        e404="There is no such source, or it gave no frame yet.", e409=_NO_PICTURE, e422="`width` cannot be used."
    )
    event_answers = refusals(
        e404="There is no such event, or it is too long ago.", e409=_NO_PICTURE, e422="`width` cannot be used."
    )
    jpeg = partial(_answer, parts.hub.pictures.jpeg)

    @router.get(
        "/sources/{name}/frame.jpg",
        response_class=Response,
        responses={**_JPEG, **source_answers},
        tags=["sources"],
    )
    async def read_frame(name: str, drawn: Drawn = False, width: Width = None) -> Response:
        """The newest frame that has a result."""
        state = _found((await parts.hub.read_status()).sources, name, "source").state
        seen = await run_in_threadpool(parts.device.newest, name)
        if seen is None:
            raise RefusedError(404, f"source {name} gave no frame yet")
        if seen.frame is None:
            raise RefusedError(409, _NO_PICTURE)
        result = seen.result if drawn else None
        shot = Shot(("source", name), seen.frame, result, state, offered_width(width))
        return await jpeg(shot, state, seen.result.age_now_ms())

    @router.get(
        "/events/{id}/frame.jpg",
        response_class=Response,
        responses={**_JPEG, **event_answers},
        tags=["events"],
    )
    async def read_event_frame(id: str, drawn: Drawn = False, width: Width = None) -> Response:
        """The frame of an event that had the highest score."""
        events = await run_in_threadpool(parts.device.events, _MOST_EVENTS)
        event = next((event for event in events if event.id == id), None)
        if event is None:
            raise RefusedError(404, "there is no such event, or it is too long ago")
        if event.best is None:
            raise RefusedError(409, _NO_PICTURE)
        best = event.best_result
        shot = Shot(("event", id), event.best, best if drawn else None, width=offered_width(width))
        return await jpeg(shot, best.state, best.age_now_ms())


async def _answer(jpeg: Callable[[Shot], Awaitable[bytes]], shot: Shot, state: str, age_ms: float) -> Response:
    headers = {"x-state": state, "x-frame": str(shot.frame.index), "x-age-ms": f"{age_ms:.1f}"}
    return Response(await jpeg(shot), media_type="image/jpeg", headers=headers)


def _prompts(name: str, model: ModelStatus) -> Prompts:
    prompts, version = model.info.get("prompts", []), model.info.get("prompt_version", 0)
    return Prompts(model=name, prompts=prompts, version=version)


def _found(values: dict[str, T], name: str, what: str) -> T:
    if name not in values:
        raise RefusedError(404, f"there is no such {what}; there is {', '.join(values) or 'none'}")
    return values[name]
