from __future__ import annotations

import pytest
from support.serving import TOKEN, Client

from mmedge.server.gate import SESSION

STATUS = "/api/v1/status"
PROMPTS = "/api/v1/models/squares/prompts"
BEARER = {"authorization": f"Bearer {TOKEN}"}

GUARDED = [
    ("GET", STATUS),
    ("GET", "/api/v1/sources"),
    ("GET", "/api/v1/sources/door"),
    ("GET", "/api/v1/sources/door/frame.jpg"),
    ("GET", PROMPTS),
    ("PUT", PROMPTS),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/events/e0/frame.jpg"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/metrics"),
    ("DELETE", SESSION),
    ("GET", "/no/such/path"),
    ("GET", "//"),
    ("POST", "/healthz"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED, ids=lambda value: value.strip("/").replace("/", "-"))
def test_no_token_no_answer(client: Client, method: str, path: str) -> None:
    answer = client(token=TOKEN).request(method, f"http://127.0.0.1{path}", json={"prompts": ["x"]})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "token" in answer.json()["detail"]


def test_what_needs_no_token_tells_nothing(client: Client) -> None:
    open_ones = client(token=TOKEN)
    assert open_ones.get("/healthz").json() == {"status": "ok"}
    assert open_ones.get("/readyz").json() == {"ready": True}
    page = open_ones.get("/")
    assert page.status_code == 200
    assert "door" not in page.text
    assert TOKEN not in page.text


@pytest.mark.parametrize(
    "header",
    ["Bearer wrong-horse-battery", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xfc"],
)
def test_a_wrong_token_is_refused(client: Client, header: str) -> None:
    answer = client(token=TOKEN).get(STATUS, headers={b"authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert TOKEN not in answer.text


def test_a_token_in_the_url_is_none(client: Client) -> None:
    assert client(token=TOKEN).get(f"{STATUS}?token={TOKEN}&access_token={TOKEN}").status_code == 401


def test_the_right_token(client: Client) -> None:
    assert client(token=TOKEN).get(STATUS, headers=BEARER).status_code == 200


def test_after_five_wrong_tokens_even_the_right_one_has_to_wait_but_a_session_goes_on(client: Client) -> None:
    app = client(token=TOKEN)
    assert app.post(SESSION, json={"token": TOKEN}).status_code == 204
    cookie = dict(app.cookies)
    app.cookies.clear()
    wrong = [app.get(STATUS, headers={"authorization": f"Bearer {k}"}).status_code for k in range(6)]
    assert wrong == [401] * 5 + [429]
    locked = app.get(STATUS, headers=BEARER)
    assert locked.status_code == 429
    assert int(locked.headers["retry-after"]) >= 1
    assert app.post(SESSION, json={"token": TOKEN}).status_code == 429
    app.cookies.update(cookie)
    assert app.get(STATUS).status_code == 200


def test_a_session_is_a_cookie_that_scripts_and_other_sites_do_not_get(client: Client) -> None:
    app = client(token=TOKEN)
    wrong = app.post(SESSION, json={"token": "x" * 20})
    assert (wrong.status_code, wrong.headers.get("set-cookie")) == (401, None)
    begun = app.post(SESSION, json={"token": TOKEN})
    cookie = begun.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie, "without TLS the browser would drop it"
    assert TOKEN not in cookie
    assert app.get(STATUS).status_code == 200
    value = app.cookies["mmedge_session"]
    assert app.delete(SESSION).status_code == 204
    app.cookies.set("mmedge_session", value)
    assert app.get(STATUS).status_code == 401


def test_a_mistake_in_the_login_does_not_repeat_what_came(client: Client) -> None:
    answer = client(token=TOKEN).post(SESSION, json={"token": {"secret": "hunter2-hunter2-hunter2"}})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost", 200),
        ("[::1]:7860", 200),
        ("robot.example:8443", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.1.4", 403),
        ("localhost@evil.example", 403),
        ("", 403),
        ("[::1", 403),
    ],
)
def test_a_name_that_is_not_ours_may_have_been_pointed_at_us(client: Client, host: str, status: int) -> None:
    app = client(origins=("https://robot.example:8443",))
    assert app.get(STATUS, headers={"host": host}).status_code == status


def test_an_address_is_no_name_on_an_open_server(client: Client) -> None:
    app = client(host="0.0.0.0", token=TOKEN)
    for host, status in (("192.168.1.4:7860", 200), ("evil.example", 403)):
        assert app.get(STATUS, headers={**BEARER, "host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"origin": "https://robot.example:8443"}, 200),
        ({"origin": "https://127.0.0.1"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_requests_of_other_sites(client: Client, method: str, headers: dict[str, str], status: int) -> None:
    app = client(origins=("https://robot.example:8443",))
    answer = app.request(method, PROMPTS, json={"prompts": ["a blue square"]}, headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(client: Client) -> None:
    app = client()
    click = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert app.get("/", headers=click).status_code == 200
    assert app.get("/api/v1/sources/door/frame.jpg", headers=click).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/page/../settings.py",
        "/style.css",
        "/page/main.js",
        "/api/v1/sources/..%2f..%2fetc%2fpasswd/frame.jpg",
        "/api/v1/sources/%2e%2e/frame.jpg",
        "/api/v1/events/..%2f..%2fetc%2fpasswd/frame.jpg",
        "/api/v1/models/..%5c..%5c/prompts",
        "/api/v1/sources/door%00.jpg",
        "/%ff%fe",
    ],
)
def test_no_path_reaches_a_file(client: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = client()
    opened: list[object] = []
    monkeypatch.setattr("builtins.open", lambda *args, **_: opened.append(args))
    answer = app.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text
    assert not opened


def test_a_body_may_not_be_large(client: Client) -> None:
    app = client(max_body=1000)
    body = b'{"prompts": ["' + b"x" * 2000 + b'"]}'
    typed = {"content-type": "application/json"}
    declared = app.put(PROMPTS, content=body, headers=typed)
    chunked = app.put(PROMPTS, content=iter([body[:900], body[900:]]), headers=typed)
    assert [declared.status_code, chunked.status_code] == [413, 413]
    assert "1000 bytes" in declared.json()["detail"]
    assert app.get(PROMPTS).json()["version"] == 1


@pytest.mark.parametrize("length", ["9" * 5000, "1" * 19, "-1", "1e3", "0x10", "", "1, 1"])
def test_a_length_that_is_none(client: Client, length: str) -> None:
    headers = {"content-type": "application/json", "content-length": length}
    assert client().request("PUT", PROMPTS, content=b"", headers=headers).status_code == 413


@pytest.mark.parametrize(
    "body",
    [b"[" * 60_000, b'{"prompts":' * 5_000, b"\xff\xfe", b"{", b"", b"nul", b'{"prompts": ["a", NaN]}', b"1e999999"],
    ids=["deep-list", "deep-object", "no-utf8", "open", "empty", "word", "nan", "huge-number"],
)
def test_a_body_that_is_no_json_for_us(client: Client, body: bytes) -> None:
    answer = client().put(PROMPTS, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


def test_a_client_may_not_ask_too_often(client: Client) -> None:
    app = client(requests_per_second=0.5)
    codes = [app.get("/healthz").status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]
    assert int(app.get("/healthz").headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/", STATUS, "/no-such", "/metrics", "/api/v1/sources/door/frame.jpg"])
def test_every_answer_has_the_headers(client: Client, path: str) -> None:
    headers = client().get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers
