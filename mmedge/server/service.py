"""Routes for people's browsers and for machines that watch machines: page, session, health, metrics, live socket."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from mmedge.server import metrics
from mmedge.server.access import COOKIE, client_of
from mmedge.server.gate import LIVE, SESSION, RefusedError, refuse_socket, session_cookie
from mmedge.server.live import LiveSocket
from mmedge.server.models import Health, Readiness, Token
from mmedge.server.page import Page
from mmedge.server.parts import Parts, refusals

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Text for Prometheus.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


def page_routes(page: Page) -> APIRouter:
    """The dashboard."""
    router = APIRouter()

    @router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def read_page() -> HTMLResponse:
        return HTMLResponse(page.html, headers={"content-security-policy": page.policy})

    return router


def session_routes(parts: Parts) -> APIRouter:
    """The token for a cookie that scripts cannot read."""
    router = APIRouter(tags=["session"])
    secure = parts.settings.scheme == "https"
    answers = {204: {"description": "The cookie is set."}, **refusals(e422="The body is not what it should be.")}

    @router.post(SESSION, status_code=204, responses=answers)
    async def begin_session(body: Token, request: Request) -> Response:
        """Begin a session: the answer sets its cookie."""
        client = client_of(request.client.host if request.client else None)
        if not parts.access.knows(client, body.token):
            raise RefusedError(401, "that is not the token")
        response = Response(status_code=204)
        if not parts.access.open:
            response.set_cookie(COOKIE, parts.access.begin(), httponly=True, samesite="strict", secure=secure)
        return response

    @router.delete(SESSION, status_code=204, responses=refusals())
    async def end_session(request: Request) -> Response:
        """End the session. Sockets that it opened stay open."""
        parts.access.end(session_cookie(request.headers) or "")
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=secure)
        return response

    return router


def service_routes(parts: Parts) -> APIRouter:
    """What monitoring asks for."""
    router = APIRouter(tags=["service"])

    @router.get("/healthz", responses=refusals())
    async def health() -> Health:
        """Whether the process is alive."""
        return Health(status="ok")

    ready_answers = {**refusals(), 503: {"model": Readiness, "description": "It is not."}}

    @router.get("/readyz", responses=ready_answers, response_model=Readiness)
    async def readiness() -> Any:
        """Whether every model is loaded, and at least one source gives results that are not old."""
        ready = await run_in_threadpool(lambda: parts.device.ready)
        return Readiness(ready=True) if ready else JSONResponse({"ready": False}, 503)

    @router.get("/metrics", responses={**_TEXT, **refusals()}, response_class=Response)
    async def read_metrics() -> Response:
        """Counters and gauges for Prometheus."""
        text = metrics.exposition(await parts.hub.read_status(), parts.hub, parts.answers)
        return Response(text, media_type=metrics.MEDIA_TYPE)

    return router


def live_routes(parts: Parts) -> APIRouter:
    """The WebSocket."""
    router = APIRouter()
    hub, settings = parts.hub, parts.settings

    @router.websocket(LIVE)
    async def live(websocket: WebSocket) -> None:
        if hub.sockets >= settings.max_sockets:
            refusal = RefusedError(503, f"all {settings.max_sockets} live sockets are taken", **{"retry-after": "10"})
            await refuse_socket(refusal, websocket.scope, websocket.receive, websocket.send)
            return
        hub.sockets += 1
        try:
            await LiveSocket(hub, websocket, settings.send_timeout).run()
        finally:
            hub.sockets -= 1

    return router
