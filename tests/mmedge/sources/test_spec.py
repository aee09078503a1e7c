from __future__ import annotations

import logging
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmedge.errors import InputError, MmedgeError, SourceNotFoundError, SourceOpenError
from mmedge.sources import GRAMMAR, mask_passwords, open_source
from mmedge.sources.spec import error_words, query_numbers, scheme_of, spec_of


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
        ("rtsp://user:hunter2", "rtsp://user:***"),
        ("rtsp://do/main:hunter2@cam/live", "rtsp://do/main:***@cam/live"),
        ("rtsp://cam:554", "rtsp://cam:554"),
        ("rtsp://[::1]:554/live?channel=1", "rtsp://[::1]:554/live?channel=1"),
        ("rtsp://cam/live?token=a/b", "rtsp://cam/live?token=***"),
        ("rtsp://cam/live?api_key=a&x=1&X-Auth=b", "rtsp://cam/live?api_key=***&x=1&X-Auth=***"),
        ("rtsp://cam/user=me_password=a_channel=1.sdp", "rtsp://cam/user=me_password=***"),
        ("user:hunter2@cam/live", "user:***@cam/live"),
        ("fault+rtsp://u:a?b@cam/live?drop=2s@10s/30s", "fault+rtsp://u:***@cam/live?drop=2s@10s/30s"),
        ("fault+rtsp://cam:554/live?freeze=2s@10s&seed=3", "fault+rtsp://cam:554/live?freeze=2s@10s&seed=3"),
        ("fault+rtsp://u:hunter?drop=x@cam", "fault+rtsp://u:***@cam"),
        (
            "gst://rtspsrc location=rtsp://cam/x user-pw=a\\ b ! x",
            "gst://rtspsrc location=rtsp://cam/x user-pw=*** ! x",
        ),
        ('gst://rtspsrc user-pw="a \\" b" latency=5 ! x', "gst://rtspsrc user-pw=*** latency=5 ! x"),
        ("gst://souphttpsrc user-pw = 'a b' ! x", "gst://souphttpsrc user-pw = *** ! x"),
        ("gst://rtspsrc location=rtsp://u:a/b@cam/x ! y", "gst://rtspsrc location=rtsp:***@cam/x ! y"),
        ("clip.mp4", "clip.mp4"),
        ("C:\\clip.mp4", "C:\\clip.mp4"),
        ("rtsp://cam/live?pwd=a@b&x=1", "rtsp://cam/live?pwd=***&x=1"),
        ("rtsp://u:12/a?key=b@cam/live", "rtsp://u:***"),
        ("user:a://b@cam", "user:***@cam"),
    ],
)
def test_passwords_are_masked(spec: str, masked: str) -> None:
    assert mask_passwords(spec) == masked
    assert mask_passwords(masked) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("rtsp://u:a@cam/live: refused; check it", "rtsp://u:***@cam/live: refused; check it"),
        ("fault+rtsp://cam:554/x?freeze=2s@10s: lost at 3", "fault+rtsp://cam:554/x?freeze=2s@10s: lost at 3"),
        ("fault+0?drop=0.1: refused token=a", "fault+0?drop=0.1: refused token=***"),
        ("fault+rtsp://u:a?drop=1: b@cam/x", "fault+rtsp://u:***@cam/x"),
        ("SinkError: mqtt://u:a@host refused", "SinkError: mqtt://u:***@host refused"),
        ("cannot reach http://u:a@host", "cannot reach http://u:***@host"),
        ("camera front: asked for 1x1, it gives 2x2", "camera front: asked for 1x1, it gives 2x2"),
    ],
)
def test_passwords_in_a_text_are_masked(text: str, masked: str) -> None:
    assert mask_passwords(text) == masked
    assert mask_passwords(masked) == masked


@given(st.text(string.digits + string.punctuation, min_size=6))
def test_no_password_survives_masking(password: str) -> None:
    assert password not in mask_passwords(f"rtsp://user:{password}@camera.local:554/stream")


SECRETS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12).map(lambda s: f"xQ{s}Zj")
FORMS = (
    "rtsp://user:{}@127.0.0.1:1/live",
    "rtsp+udp://:{}@127.0.0.1:1",
    "rtsps://user:{}@",
    "rtsp://user:{}@127.0.0.1:1/live?channel=1&subtype=0#x",
    "http://user:{}@cam/video",
    "tabletop://user:{}@cam/?seed=1",
    "csi://user:{}@0",
    "user:{}@cam/live",
    "rtsp:/user:{}@cam/live",
    "fault+rtsp://user:{}@127.0.0.1:1/live?drop=0.1",
    "fault+rtsp://user:{}@127.0.0.1:1/live?drop=maybe",
    "fault+rtsp://user:{}@127.0.0.1:1/live?channel=1",
    "fault+rtsp://user:{}@127.0.0.1:1/live?channel=1?freeze=2s@10s&seed=1",
    "fault+fault+rtsp://user:{}@127.0.0.1:1/live?drop=0.1?drop=0.1",
    "gst://rtspsrc location=rtsp://user:{}@127.0.0.1:1/live ! decodebin",
)
FIELDS = (
    "rtsp://127.0.0.1:1/live?user=me&password={}",
    "rtsp://127.0.0.1:1/live?token={}&channel=1",
    "rtsp://127.0.0.1:1/user=me_password={}_channel=1.sdp",
    "http://cam/video?api_key={}",
    "0?password={}",
    "tabletop://?secret={}",
    "csi://0?token={}",
    "fault+rtsp://127.0.0.1:1/live?pwd={}",
    "fault+rtsp://127.0.0.1:1/live?pwd={}?drop=0.1",
    "gst://rtspsrc location=rtsp://127.0.0.1:1/live?token={} ! decodebin",
)


def shown(spec: str) -> str:
    """Everything that a source which cannot be opened says: its name, its error and all causes, and the log."""
    lines: list[str] = [mask_passwords(spec)]
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        open_source(spec, open_timeout=2)
    except MmedgeError as error:
        cause: BaseException | None = error
        while cause is not None:
            lines.append(str(cause))
            cause = cause.__cause__
    finally:
        logging.getLogger().removeHandler(handler)
    assert len(lines) > 1, f"{spec} was opened"
    return "\n".join(lines)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=15, deadline=None)
@given(secret=SECRETS)
def test_no_secret_of_an_address_is_ever_shown(form: str, secret: str) -> None:
    text = shown(form.format(secret))
    assert "xQ" not in text
    assert "Zj" not in text


@pytest.mark.parametrize("form", FIELDS)
@settings(max_examples=15, deadline=None)
@given(secret=SECRETS.filter(lambda secret: not set(secret) & set("&?# '\"\\") and not any(map(str.isspace, secret))))
def test_no_secret_of_a_field_is_ever_shown(form: str, secret: str) -> None:
    text = shown(form.format(secret))
    assert "xQ" not in text
    assert "Zj" not in text


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
    "spec", ["http://cam/video", "rtmp://cam/live", "ftp://x", "://", "nowhere.mp4", "no/such/folder/", ""]
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


def test_errors_keep_their_words_around_addresses() -> None:
    ours = SourceOpenError("cannot be used: rtsp://me:secret@camera/1; write size=1x1@5 and not a@b")
    assert error_words(ours) == "cannot be used: rtsp://me:***@camera/1; write size=1x1@5 and not a@b"
    theirs = error_words(OSError("rtsp://me:with space@camera"))
    assert theirs.startswith("OSError: ")
    assert "with" not in theirs
    assert "space" not in theirs
