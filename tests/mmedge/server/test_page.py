"""The dashboard in Chromium."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.device_stand_in import DeviceStandIn
from support.serving import TOKEN, Serve

from mmedge.device.device import Device
from mmedge.device.quick import quick_config
from mmedge.server.page import load_page
from mmedge.server.running import Server
from mmedge.server.settings import ServerSettings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = Path(__file__).resolve().parents[3] / "build" / "screenshots"

in_chromium = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; install Debian's package chromium"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """``page(url, **context)``: a page in which nothing went wrong, or the test fails."""
    complaints: list[str] = []
    with ExitStack() as stack:

        def opened(url: str, *, width: int = 1280, height: int = 900, **options: Any) -> Any:
            context = chromium.new_context(viewport={"width": width, "height": height}, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(10_000)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda m: complaints.append(m.text) if "Content Security Policy" in m.text else None)
            page.on(
                "request", lambda r: None if r.url.startswith((url, "blob:", "data:")) else complaints.append(r.url)
            )
            page.goto(url)
            return page

        yield opened
    assert complaints == []


def until(page: Any, condition: str) -> None:
    """Wait for JavaScript to be true. Playwright's own way is an eval, which the page's policy forbids."""
    ends = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < ends, f"still not: {condition}"
        page.wait_for_timeout(50)


def shoot(page: Any, name: str, **options: Any) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", **options)


class TestInChromium:
    pytestmark = in_chromium

    def test_a_prompt_is_typed_and_its_boxes_appear(self, page: Any) -> None:
        """The real thing: the built-in model over the built-in camera, a device, a server, and someone who types."""
        config = quick_config(["tabletop://?seed=3", "tabletop://?seed=7"], ["a green cone"], None, port=0)
        with Device(config) as device, Server(device, config.server) as server:
            board = page(server.address)
            board.wait_for_selector('canvas[data-boxes="0"]')
            board.get_by_label("Prompt", exact=True).fill("a ball")
            board.keyboard.press("Enter")
            board.wait_for_selector("text=In force as version 2.")
            until(board, "document.querySelectorAll('canvas[data-version=\"2\"]').length === 2")
            card = board.locator("article", has=board.get_by_role("heading", name="camera1"))
            card.locator("canvas[aria-label*='a ball']").wait_for()
            assert device.status()["models"]["model"]["info"]["prompts"] == ["a ball"]
            # On the picture, and in the prompt's colour: not only said to be there.
            until(
                board,
                """[...document.querySelectorAll(".view canvas")].some((canvas) => {
                    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                    let count = 0;
                    for (let k = 0; k < data.length; k += 4)
                        count += data[k] === 255 && data[k + 1] === 180 && data[k + 2] === 60;
                    return count > 100;
                })""",
            )
            assert card.get_by_text("live").is_visible()
            time.sleep(1.2)
            shoot(board, "dashboard")

    def test_what_is_not_live_never_looks_fresh(self, page: Any, serve: Serve, device: DeviceStandIn) -> None:
        device.run(30)
        server = serve()
        board = page(server.address)
        door, yard = (board.get_by_label(f"Camera {name}", exact=True) for name in ("door", "yard"))
        until(board, "document.querySelectorAll('.camera:not(.old)').length === 3")
        device.change_state("door", "frozen", "the same picture for 5 s")
        door.get_by_text(re.compile(r"^Frozen: the same picture for 5 s · for [0-9.]+ s$")).wait_for()
        assert "old" in door.get_attribute("class")
        assert "grayscale" in door.locator(".view canvas").evaluate("canvas => getComputedStyle(canvas).filter")
        assert "old" not in yard.get_attribute("class")
        device.stop()
        yard.get_by_text(re.compile("Late · picture .* old")).wait_for()
        server.stop()
        board.get_by_text(re.compile("No connection to the device for .*Everything below is old")).wait_for()
        assert board.locator(".camera:not(.old)").count() == 0
        yard.get_by_text(re.compile("No connection to the device · picture .* old")).wait_for()
        shoot(board, "no-connection")

        port = int(server.address.rsplit(":", 1)[1])
        again = DeviceStandIn().run(30)
        try:
            with Server(again, ServerSettings(port=port)):
                until(board, "document.querySelectorAll('.camera:not(.old)').length === 3")
                assert board.locator("#alarm").is_hidden()
        finally:
            again.stop()

    def test_the_token_is_asked_for_and_kept_from_scripts_and_addresses(
        self, page: Any, serve: Serve, device: DeviceStandIn
    ) -> None:
        device.run(15)
        board = page(serve(token=TOKEN).address)
        board.get_by_label("Token", exact=True).fill("wrong-horse-battery")
        board.keyboard.press("Enter")
        board.get_by_text("that is not the token").wait_for()
        board.get_by_label("Token", exact=True).fill(TOKEN)
        addresses: list[str] = []
        board.on("request", lambda request: addresses.append(request.url))
        board.get_by_role("button", name="Log in").click()
        until(board, "document.querySelectorAll('.camera:not(.old)').length === 3")
        assert board.evaluate("document.cookie") == ""
        assert addresses
        assert not any(TOKEN in address for address in addresses)
        board.get_by_role("button", name="Log out").click()
        board.get_by_label("Token", exact=True).wait_for()
        board.reload()
        board.get_by_label("Token", exact=True).wait_for()
        assert board.locator(".camera").count() == 0

    def test_without_pixels_boxes_are_drawn_on_an_empty_ground(self, page: Any, serve: Serve) -> None:
        private = DeviceStandIn(pixels=False).run(15)
        try:
            board = page(serve(on=private).address)
            board.wait_for_selector('canvas[data-boxes="1"]')
            board.get_by_text("no pictures leave this device").wait_for()
            shoot(board, "no-pixels")
        finally:
            private.stop()

    @pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")], ids=["phone", "desktop"])
    def test_nothing_is_wider_than_the_screen(
        self, page: Any, serve: Serve, device: DeviceStandIn, width: int, scheme: str
    ) -> None:
        device.set_prompts("squares", ["a red square", "a prompt that is so long that it cannot be shown " * 5])
        device.happen("door", kind="end")
        device.run(15)
        board = page(serve().address, width=width, color_scheme=scheme)
        until(board, "document.querySelectorAll('.camera:not(.old)').length === 3")
        assert board.evaluate("document.documentElement.scrollWidth") <= width
        board.locator("#events button").click()
        board.get_by_text("visitor: began").wait_for()
        until(board, "document.getElementById('event-picture').naturalWidth > 0")
        board.keyboard.press("Escape")
        shoot(board, f"board-{width}-{scheme}", full_page=True)

    def test_names_and_prompts_are_text_and_errors_are_shown(
        self, page: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hostile = '<img src=x onerror="alert(1)">'
        device = DeviceStandIn({hostile: "squares"}, device=hostile).run(15)
        device.set_prompts("squares", [hostile])
        try:
            board = page(serve(on=device).address)
            board.get_by_role("heading", name=hostile).first.wait_for()
            assert board.locator("header img, #cameras img, #prompts img").count() == 0
            board.get_by_role("button", name="Add prompt").click()
            board.keyboard.type("x" * 3 + "\u2003")
            device.set_prompts("squares", ["set elsewhere"])
            board.get_by_text("Changed elsewhere meanwhile, to version 3.").wait_for()
            assert board.get_by_label("Prompt", exact=True).nth(1).input_value().startswith("xxx")
            monkeypatch.setattr(device, "set_prompts", lambda *_: 1 / 0)
            board.get_by_role("button", name="Apply").click()
            board.get_by_text("Not applied:").wait_for()
            board.get_by_role("button", name="Revert").click()
            assert board.get_by_label("Prompt", exact=True).input_value() == "set elsewhere"
        finally:
            device.stop()


def test_the_page_is_one_document_that_loads_nothing() -> None:
    page = load_page()
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", page.html)
    assert "/*STYLE*/" not in page.html
    assert "/*SCRIPT*/" not in page.html
    assert "innerHTML" not in page.html
    assert "'unsafe-inline'" not in page.policy
    assert page.policy.count("sha256-") == 2
