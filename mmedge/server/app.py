"""The application: routes, gate, and what runs beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from mmedge import __version__
from mmedge.device.status import RunningDevice
from mmedge.server.access import Access
from mmedge.server.gate import API, Gate, RefusedError
from mmedge.server.hub import Hub
from mmedge.server.page import load_page
from mmedge.server.parts import Parts
from mmedge.server.routes import rest
from mmedge.server.service import live_routes, page_routes, service_routes, session_routes
from mmedge.server.settings import ServerSettings

_MOST_MISTAKES = 5


def create_app(device: RunningDevice, settings: ServerSettings) -> FastAPI:
    """The dashboard and its interface as an ASGI application.

    It attaches itself to `device` when it starts and detaches when it stops. Limits on connections and on the time of
    a request are those of `mmedge.server.running.Server`; another ASGI server has to bring its own.
    """
    parts = Parts(device, settings, Access(settings.token), Hub(device))

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await parts.hub.start()
        try:
            yield
        finally:
            await parts.hub.stop()

    app = FastAPI(
        title="mmedge",
        version=__version__,
        description="A device that looks for what it is told to look for.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=life,
    )
    # The gate checks the token; this says so in the OpenAPI document.
    bearer = [Depends(HTTPBearer(auto_error=False, description="The token of the server's settings."))]
    app.include_router(rest(parts), prefix=API, dependencies=bearer)
    app.include_router(session_routes(parts))
    app.include_router(service_routes(parts), dependencies=bearer)
    app.include_router(live_routes(parts))
    app.include_router(page_routes(load_page()))
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Gate, settings=settings, access=parts.access, answers=parts.answers)
    app.state.hub = parts.hub
    return app


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return JSONResponse({"detail": error.detail}, error.status, error.headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Without what came, which FastAPI would repeat: it may be a token.
    return JSONResponse({"detail": "; ".join(map(_mistake, error.errors()[:_MOST_MISTAKES]))}, 422)


def _mistake(error: dict[str, Any]) -> str:
    return f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
