from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.device_stand_in import DeviceStandIn
from support.serving import TOKEN, Client

from mmedge.server.app import create_app
from mmedge.server.settings import ServerSettings

HOST = {"host": "127.0.0.1"}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def application() -> FastAPI:
    device = DeviceStandIn()
    device.step()
    device.happen("door")
    return create_app(device, ServerSettings(requests_per_second=1e6))


schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", application(), headers=HOST)


@schema.parametrize()
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_whatever_comes_the_answer_is_one_that_the_document_promises(case: Any) -> None:
    case.call_and_validate(checks=CHECKS, headers=HOST)
    # A name that comes by chance is that of nothing; the same again for things that are there.
    for parameter, name in (("id", "e0"), ("name", "squares" if "/models/" in case.path else "door")):
        if parameter in (case.path_parameters or {}):
            case.path_parameters[parameter] = name
            case.call_and_validate(checks=CHECKS, headers=HOST)


def test_the_document_is_complete(client: Client) -> None:
    document = client().get("/api/v1/openapi.json").json()
    assert sorted(document["paths"]) == [
        "/api/v1/events",
        "/api/v1/events/{id}/frame.jpg",
        "/api/v1/models/{name}/prompts",
        "/api/v1/session",
        "/api/v1/sources",
        "/api/v1/sources/{name}",
        "/api/v1/sources/{name}/frame.jpg",
        "/api/v1/status",
        "/healthz",
        "/metrics",
        "/readyz",
    ]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            where = f"{method} {path}"
            assert {"401", "403", "413", "429"} <= set(route["responses"]), where
            assert route["summary"], where
            assert ("security" in route) == (path != "/api/v1/session"), where
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"])
def test_no_page_that_loads_from_elsewhere(client: Client, path: str) -> None:
    assert client().get(path).status_code == 404


def test_the_document_needs_the_token(client: Client) -> None:
    app = client(token=TOKEN)
    assert app.get("/api/v1/openapi.json").status_code == 401
    assert app.get("/api/v1/openapi.json", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
