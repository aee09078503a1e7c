from __future__ import annotations

from typing import Any

import cv2
import pytest
from support.sink_items import observation, state

from mmedge.errors import SinkError
from mmedge.sinks.window import Window


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    shown: list[Any] = []
    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: -1)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: shown.append("closed"))
    return shown


def test_frames_are_shown_and_all_else_passed_over(shown: list[Any]) -> None:
    window = Window(lambda: None)
    for item in (observation(0), state(), observation(1, size=None), observation(2)):
        window.write(item)
    window.close()
    assert shown == [(48, 64, 3), (48, 64, 3), "closed"]


@pytest.mark.parametrize(("key", "quits"), [(ord("q"), 1), (27, 1), (ord("x"), 0), (-1, 0)])
def test_keys(key: int, quits: int, shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr(cv2, "waitKey", lambda delay: key)
    Window(lambda: calls.append(None)).write(observation(0))
    assert len(calls) == quits


def test_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="needs a display"):
        Window(lambda: None)


def test_an_opencv_without_windows(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(title: str, image: Any) -> None:
        error = cv2.error("x")
        error.err = "not implemented"
        raise error

    monkeypatch.setattr(cv2, "imshow", refuse)
    with pytest.raises(SinkError, match="this OpenCV has no windows"):
        Window(lambda: None).write(observation(0))
