from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmedge.errors import InputError, SourceNotFoundError, SourceOpenError
from mmedge.sources import GRAMMAR, mask_passwords, open_source
from mmedge.sources.spec import query_numbers, scheme_of, spec_of


@pytest.mark.parametrize(
    ("spec", "masked"),
    [
        ("rtsp://cam/live", "rtsp://cam/live"),
        ("rtsp://user@cam/live", "rtsp://user@cam/live"),
        ("rtsp://user:hunter2@cam:8554/live", "rtsp://user:***@cam:8554/live"),
        ("rtsp://user:a@b/c@cam/live", "rtsp://user:***@cam/live"),
        ("rtsp://:hunter2@cam", "rtsp://:***@cam"),
        ("rtsp://cam/user=me&password=hunter2&channel=1", "rtsp://cam/user=me&password=***&channel=1"),
        ("rtsp://cam/live?user=me&pwd=hunter2", "rtsp://cam/live?user=me&pwd=***"),
        ("clip.mp4", "clip.mp4"),
    ],
)
def test_passwords_are_masked(spec: str, masked: str) -> None:
    assert mask_passwords(spec) == masked


@given(st.text(string.digits + string.punctuation, min_size=6))
def test_no_password_survives_masking(password: str) -> None:
    assert password not in mask_passwords(f"rtsp://user:{password}@camera.local:554/stream")


def test_scheme() -> None:
    assert scheme_of("RTSP://cam") == "rtsp"
    assert scheme_of("clip.mp4") is None
    assert scheme_of("C:\\clip.mp4") is None


def test_query_numbers_over_defaults() -> None:
    known = {"seed": 0.0, "fps": 30.0}
    assert query_numbers("tabletop://?seed=3", known) == {"seed": 3.0, "fps": 30.0}
    assert query_numbers("tabletop://", known) == known


@pytest.mark.parametrize(
    "spec",
    ["tabletop://?sed=3", "tabletop://?seed=1&seed=2", "tabletop://?seed=", "tabletop://?seed=x", "tabletop://kitchen"],
)
def test_query_refuses_what_it_does_not_know(spec: str) -> None:
    with pytest.raises(SourceOpenError, match=r"expected|must be a number"):
        query_numbers(spec, {"seed": 0.0})


@pytest.mark.parametrize(
    "spec", ["http://cam/video", "csi://0", "ftp://x", "://", "nowhere.mp4", "no/such/folder/", ""]
)
def test_unknown_names_tell_the_grammar(spec: str) -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        open_source(spec)
    assert GRAMMAR in str(caught.value)


def test_unknown_scheme_does_not_leak_a_password() -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        open_source("http://user:hunter2@cam/video")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "spec"),
    [
        ("0", "0"),
        (0, "0"),
        (np.int64(2), "2"),
        (np.uint8(3), "3"),
        (Path("clips") / "a.mp4", str(Path("clips") / "a.mp4")),
        (True, None),
        (np.True_, None),
        (b"0", None),
        (1.0, None),
        (None, None),
        (["0"], None),
    ],
)
def test_sources_by_name_number_or_path(source: object, spec: str | None) -> None:
    assert spec_of(source) == spec


@pytest.mark.parametrize("source", [None, b"0", True, 0.0, object()])
def test_what_is_no_name_is_refused(source: object) -> None:
    with pytest.raises(InputError, match=f"a source is a camera number .* got {type(source).__name__}"):
        open_source(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["timeout", "open_timeout"])
@pytest.mark.parametrize("value", ["5", None, 0, -1.0, float("nan"), float("inf"), 10**400, True])
def test_times_are_checked(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{name} must be a number of seconds above 0"):
        open_source("nowhere.mp4", **{name: value})  # type: ignore[arg-type]
