from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.bundles import COLORS, IMAGE, IMAGE_INPUT, write_bundle
from support.command import Mmedge
from support.media import Script, write_video

from mmedge.bundle import Embed
from mmedge.errors import SourceLostError
from mmedge.sources import Frame, open_source


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, color in COLORS.items():
        cv2.imwrite(str(folder / f"{name}.png"), np.full((48, 64, 3), color, np.uint8))
    return folder


def test_each_picture_gets_its_colour(mmedge: Mmedge, bundle: Path, photos: Path) -> None:
    done = mmedge("run", bundle, "--source", photos, "--text", "red", "--text", "green", "--text", "blue")
    assert done.code == 0, done.err
    best = {
        Path(line["source"]).stem: line["labels"][line["scores"].index(max(line["scores"]))] for line in lines(done.out)
    }
    assert best == {"red": "red", "green": "green", "blue": "blue"}


def test_prompts_from_a_file_follow_those_of_the_command(
    mmedge: Mmedge, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("green\n\n  blue \n", encoding="utf-8")
    done = mmedge("run", bundle, "--source", photos, "--text", "red", "--text-file", tmp_path / "prompts.txt")
    assert lines(done.out)[0]["labels"] == ["red", "green", "blue"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xfa"], ids=["missing", "no-utf-8"])
def test_prompt_file_that_cannot_be_read(content: bytes | None, mmedge: Mmedge, bundle: Path, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "prompts.txt").write_bytes(content)
    done = mmedge("run", bundle, "--source", "tabletop://", "--text-file", tmp_path / "prompts.txt")
    assert done.code == 4
    assert "prompts.txt cannot be read as UTF-8" in done.err


def test_several_sources_and_a_count(mmedge: Mmedge, bundle: Path) -> None:
    tables = [f"tabletop://?seed={seed}&width=64&height=48&live=0" for seed in (1, 2)]
    done = mmedge("run", bundle, "--source", tables[0], "--source", tables[1], "--text", "red", "--frames", "10")
    found = lines(done.out)
    assert len(found) == 10
    assert {line["source"] for line in found} == set(tables)
    assert "10 frames, 0 dropped" in done.err


def test_saved_video_has_a_picture_for_each_frame(mmedge: Mmedge, bundle: Path, tmp_path: Path) -> None:
    clip, out = write_video(tmp_path / "clip.mp4", 12, fps=12.5, width=128, height=96), tmp_path / "out.mp4"
    assert mmedge("run", bundle, "--source", clip, "--text", "red", "--save", out).code == 0
    saved, original = open_source(out), open_source(clip)
    assert (saved.frame_count, saved.fps) == (12, 12.5)
    first, plain = saved.read(), original.read()
    assert first is not None
    assert plain is not None
    assert np.abs(first.image.astype(int) - plain.image).max() > 60


def test_saved_video_of_a_live_source_keeps_its_pace(mmedge: Mmedge, bundle: Path, tmp_path: Path) -> None:
    table, out = "tabletop://?width=64&height=48&fps=20", tmp_path / "out.mp4"
    done = mmedge("run", bundle, "--source", table, "--text", "red", "--save", out, "--frames", "15")
    assert len(lines(done.out)) == 15
    saved = open_source(out)
    assert (saved.frame_count, saved.fps) == (15, pytest.approx(20, rel=0.2))


class Late(Script):
    """A camera of 1000 frames a second by its header, that numbers from 100,000 and loses nine frames of ten."""

    def read(self) -> Frame | None:
        frame = super().read()
        return None if frame is None else replace(frame, index=100_000 + 10 * frame.index)


@pytest.mark.parametrize(("frames", "rate"), [(3, 25), (12, 25), (1, 25)])
def test_saved_video_has_one_picture_a_result_however_many_are_dropped(
    frames: int, rate: float, mmedge: Mmedge, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Late(frames, interval=0.04, fps=1000.0)
    monkeypatch.setattr("mmedge.streaming.link.open_source", lambda spec, **options: camera)
    done = mmedge("run", bundle, "--source", "0", "--text", "red", "--save", tmp_path / "out.mp4")
    found = lines(done.out)
    assert [line["dropped"] for line in found] == [0] + [9] * (frames - 1)
    saved = open_source(tmp_path / "out.mp4")
    assert (saved.frame_count, saved.fps) == (frames, pytest.approx(rate, rel=0.2))


@pytest.mark.parametrize("threads", ["0", "257"])
def test_threads_have_bounds(threads: str, mmedge: Mmedge, bundle: Path) -> None:
    done = mmedge("run", bundle, "--source", "tabletop://?frames=1", "--text", "red", "--threads", threads)
    assert done.code == 2
    assert "Invalid value for '--threads'" in done.err


def test_video_is_completed_when_the_source_is_lost(
    mmedge: Mmedge, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(4, live=False, then=SourceLostError("script was unplugged"))
    monkeypatch.setattr("mmedge.streaming.link.open_source", lambda spec, **options: script)
    done = mmedge("run", bundle, "--source", "0", "--text", "red", "--save", tmp_path / "out.mp4")
    assert done.code == 5
    assert "error: script was unplugged" in done.err
    assert "4 frames, 0 dropped" in done.err
    assert open_source(tmp_path / "out.mp4").frame_count == 4


def test_one_video_cannot_hold_several_sources(mmedge: Mmedge, bundle: Path) -> None:
    done = mmedge("run", bundle, "--source", "0", "--source", "1", "--text", "red", "--save", "out.mp4")
    assert done.code == 2
    assert "--save takes one --source" in done.err


def test_damaged_video_is_named_in_the_summary(mmedge: Mmedge, bundle: Path, photos: Path) -> None:
    (photos / "a.png").write_bytes(b"broken")
    done = mmedge("run", bundle, "--source", photos, "--text", "red")
    assert done.code == 0
    assert "1 of 4 pictures could not be read" in done.err.splitlines()[-1]


def test_model_without_text_takes_no_prompts(mmedge: Mmedge, tmp_path: Path, photos: Path) -> None:
    path = write_bundle(
        tmp_path / "embed.mmedge",
        {"image": IMAGE},
        inputs={"image": IMAGE_INPUT},
        outputs=("image_vec",),
        task=Embed("image_vec"),
    )
    done = mmedge("run", path, "--source", photos)
    assert done.code == 0, done.err
    assert lines(done.out)[0]["image_embedding"] == [0.0, 0.0, 1.0]
    refused = mmedge("run", path, "--source", photos, "--text", "red")
    assert refused.code == 2
    assert "takes no text" in refused.err


def test_threshold(mmedge: Mmedge, grounding_bundle: Path) -> None:
    table = "tabletop://?width=64&height=64&live=0&frames=1"
    found = [
        lines(mmedge("run", grounding_bundle, "--source", table, "--text", "red", "--conf", conf).out)[0]["boxes"]
        for conf in ("0.8", "0.95")
    ]
    assert found == [[[24.0, 16.0, 40.0, 48.0]], []]


def test_without_a_bundle_the_built_in_one_runs(mmedge: Mmedge, built_in: Path) -> None:
    done = mmedge("run", "--source", "tabletop://?live=0&frames=2", "--text", "the red cube")
    assert [line["labels"] for line in lines(done.out)] == [["the red cube"]] * 2


def test_window_without_a_display_is_refused(mmedge: Mmedge, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    done = mmedge("run", bundle, "--source", "tabletop://", "--text", "red", "--show")
    assert done.code == 2
    assert "needs a display" in done.err


def test_window_shows_each_result_until_q(mmedge: Mmedge, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    keys = iter([-1, -1, ord("q")])
    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: next(keys))
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: shown.append("closed"))
    done = mmedge("run", bundle, "--source", "tabletop://?width=64&height=48&live=0", "--text", "red", "--show")
    assert done.code == 0, done.err
    assert [getattr(image, "shape", image) for image in shown] == [(48, 64, 3)] * 3 + ["closed"]
    assert len(lines(done.out)) == 3
