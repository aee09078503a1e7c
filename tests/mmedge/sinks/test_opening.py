from __future__ import annotations

import importlib
import inspect
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mmedge.errors import InputError, MissingDependencyError
from mmedge.sinks.opening import OPENERS, open_sink
from mmedge.sinks.sink import SinkContext

CONTEXT = SinkContext()


@pytest.mark.parametrize("kind", OPENERS)
def test_every_opener_takes_a_context_and_options_by_name(kind: str) -> None:
    module, _, function = OPENERS[kind].partition(":")
    opener = getattr(importlib.import_module(module), function)
    context, *options = inspect.signature(opener).parameters.values()
    assert context.name == "context"
    assert all(option.kind is option.KEYWORD_ONLY for option in options)
    hints = typing.get_type_hints(opener)
    assert all(option.name in hints for option in options)


def test_an_option_in_a_list_of_types(tmp_path: Path) -> None:
    sink = open_sink("jsonl", {"path": str(tmp_path / "a"), "types": ["event"], "max_bytes": 5000}, CONTEXT)
    assert sink.kind == "jsonl"
    sink.close()


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("jsonlines", {}, "kind must be one of jsonl, video"),
        ("jsonl", {"pth": "a"}, "jsonl has no option 'pth'; did you mean path"),
        ("jsonl", {"zzz": "a"}, "jsonl has no option 'zzz'; options: path, types, max_bytes, keep"),
        ("jsonl", {"context": 1}, "jsonl has no option 'context'"),
        ("jsonl", {}, "jsonl needs the option 'path'"),
        ("jsonl", {"path": 3}, "jsonl: path must be text, got a whole number"),
        ("jsonl", {"path": "a", "keep": 1.5}, "jsonl: keep must be a whole number, got a number"),
        ("jsonl", {"path": "a", "keep": True}, "jsonl: keep must be a whole number, got true or false"),
        ("jsonl", {"path": "a", "types": "event"}, "jsonl: types must be a list, each one of 'result', 'event'"),
        ("jsonl", {"path": "a", "types": ["events"]}, "jsonl: types must be a list, each one of 'result', 'event'"),
        ("video", {"path": "a.avi"}, "video: path must end in .mp4, got 'a.avi'"),
        ("mcap", {"path": "a.bag"}, "mcap: path must end in .mcap, got 'a.bag'"),
        ("rerun", {"path": "a"}, "rerun: path must end in .rrd, got 'a'"),
        ("webhook", {"url": "http://h/", "secret": 1234}, "webhook: secret must be text, got a whole number"),
        ("webhook", {"url": "http://h/", "headers": "a"}, "webhook: headers must be a table, got text"),
        ("webhook", {"url": "http://h/", "timeout": "5"}, "webhook: timeout must be a number, got text"),
        ("webhook", {"url": "http://h/", "picture": 1}, "webhook: picture must be true or false, got a whole number"),
    ],
)
def test_options_that_cannot_be(kind: str, options: Mapping[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_sink(kind, options, CONTEXT)
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "library", "options"),
    [("mcap", "mcap", {"path": "a.mcap"}), ("rerun", "rerun", {"path": "a.rrd"})],
)
def test_a_missing_library_is_named_with_its_extra(
    kind: str, library: str, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf'pip install "mmedge\[{kind}\]"'):
        open_sink(kind, options, CONTEXT)
