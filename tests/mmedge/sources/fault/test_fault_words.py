from __future__ import annotations

import pytest

from mmedge.errors import SourceNotFoundError, SourceOpenError
from mmedge.sources import open_source
from mmedge.sources.fault import FAULTS, faults_of, split_faults


@pytest.mark.parametrize(
    ("spec", "source", "faults"),
    [
        ("fault+0?drop=0.1", "0", "drop=0.1"),
        ("fault+rtsp://cam/live?x=1?drop=0.1", "rtsp://cam/live?x=1", "drop=0.1"),
        ("FAULT+clip.mp4?drop=0.1&seed=3", "clip.mp4", "drop=0.1&seed=3"),
        ("fault+rtsp://me:hunter2@cam:554/live?freeze=2s@10s", "rtsp://me:hunter2@cam:554/live", "freeze=2s@10s"),
    ],
)
def test_faults_stand_behind_the_last_question_mark(spec: str, source: str, faults: str) -> None:
    assert split_faults(spec) == (source, faults)


@pytest.mark.parametrize(
    "spec", ["fault+", "fault+0", "fault+?drop=0.1", "fault+clip.mp4?", "fault+fault+0?drop=0.1?drop=0.2"]
)
def test_a_source_or_faults_are_missing(spec: str) -> None:
    with pytest.raises(SourceOpenError, match=r"expected fault\+SOURCE\?FAULT="):
        open_source(spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("dorp=0.1", "'dorp' is no fault"),
        ("x=1", "'x' is no fault; faults stand behind the last"),
        ("Drop=0.1", "'Drop' is no fault"),
        ("drop", "drop='': expected a chance"),
        ("drop=2", "expected a chance from 0 to 1, or LENGTH@WHEN"),
        ("drop=-0.1", "expected a chance"),
        ("drop=2s", "expected a chance"),
        ("drop=0@5", "expected a length above 0"),
        ("drop=1.5@5", "expected a number of frames"),
        ("freeze=2s@", "expected a number of frames"),
        ("freeze=2s@1.5", "expected a chance from 0 to 1"),
        ("freeze=2s@1m", "expected a number of frames"),
        ("freeze=2s@10s/30", "start and period in the same unit"),
        ("freeze=2s@10s/0s", "expected a length above 0"),
        ("hang=3s", "expected SECONDS@WHEN"),
        ("hang=3@5", "expected a time above 0"),
        ("hang=3601s@5", "up to 3600s"),
        ("delay=5", "expected a time above 0"),
        ("delay=1s*0@5", "expected a length above 0"),
        ("resize=320", "expected WIDTHxHEIGHT"),
        ("resize=0x240", "expected WIDTHxHEIGHT"),
        ("resize=99999x2", "each up to 7680"),
        ("disconnect=", "expected a number of frames"),
        ("disconnect=5@6", "expected a number of frames"),
        ("seed=3", "a seed and no fault"),
        ("seed=3&seed=4&drop=0.1", "expected one whole number as seed"),
        ("seed=x&drop=0.1", "expected one whole number as seed"),
    ],
)
def test_what_is_no_fault_tells_the_grammar(options: str, message: str) -> None:
    with pytest.raises(SourceOpenError) as caught:
        open_source(f"fault+tabletop://?{options}")
    assert message in str(caught.value)
    assert FAULTS in str(caught.value) or "seed" in message


@pytest.mark.parametrize(
    "options",
    [
        *("drop=0.1", "drop=1", "drop=5@100", "drop=2s@10s/30s", "drop=3@0.01", "freeze=2s@10s", "freeze=500ms@20"),
        *(
            "corrupt=0.5",
            "hang=3s@10s/60s",
            "hang=100ms@0.01",
            "delay=300ms",
            "delay=300ms@10s",
            "delay=1.5s*2s@5s/10s",
        ),
        *("resize=320x240", "resize=320x240@100", "resize=320x240*1@1/2", "disconnect=300", "disconnect=2.5s"),
        *("disconnect=0.01", "drop=0.1&drop=5@100&freeze=2s@10s&seed=7"),
    ],
)
def test_what_is_documented_can_be_read(options: str) -> None:
    assert faults_of("fault+0", options).faults


def test_the_source_is_opened_as_it_would_be_alone() -> None:
    with pytest.raises(SourceNotFoundError, match=r"there is no 'nowhere\.mp4'"):
        open_source("fault+nowhere.mp4?drop=0.1")


@pytest.mark.parametrize(
    "spec",
    [
        "fault+rtsp://me:hunter2@cam/live?y=1",
        "fault+rtsp://me:hunt?er2@cam/live",
        "fault+rtsp://me:hunt?er2=1@cam/live",
        "fault+rtsp://me:hunt?drop=er2@cam/live",
        "fault+rtsp://me:hunter2",
        "fault+fault+rtsp://me:hunter2@cam:1/live?drop=0.1?drop=7",
        "fault+http://cam/?token=hunter2",
        "fault+http://cam/?token=hunter2?drop=0.1",
    ],
)
def test_errors_do_not_leak_a_password(spec: str) -> None:
    with pytest.raises((SourceOpenError, SourceNotFoundError)) as caught:
        open_source(spec)
    assert "hunt" not in str(caught.value)
    assert "er2" not in str(caught.value)
