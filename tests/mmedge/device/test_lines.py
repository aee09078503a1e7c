from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmedge.device.lines import LineIndex, Path, parse
from mmedge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HAND_WRITTEN = """\
# a comment with [brackets] and = signs
title = "a # no comment"   # a comment

[device]
name = 'literal "quoted"'
"quoted key" = 1
dotted . "inner key" = 2
text = \"\"\"
[not.a.table]
key = "no key" \\" \"\"\"\"
points = [
    [0.0, 0.5], # first
    [1.0, 0.5],
    { x = 1, y = [
        2,
        3 ] },
]

[sources.front]
url = "rtsp://a:b@c/1#[2]"
backoff = { first = 0.5, longest = 2.0 }
[[prompt]]
text = '''
]
'''
[[prompt]]
text = "second"
[prompt.deeper]
when = 2026-01-31T12:00:00Z
[ sources . "the back" ]
url = "0"
"""

PLACES: dict[Path, int] = {
    ("title",): 2,
    ("device",): 4,
    ("device", "name"): 5,
    ("device", "quoted key"): 6,
    ("device", "dotted"): 7,
    ("device", "dotted", "inner key"): 7,
    ("device", "text"): 8,
    ("device", "points"): 11,
    ("device", "points", 0): 12,
    ("device", "points", 0, 1): 12,
    ("device", "points", 1, 0): 13,
    ("device", "points", 2, "x"): 14,
    ("device", "points", 2, "y", 0): 15,
    ("device", "points", 2, "y", 1): 16,
    ("sources",): 19,
    ("sources", "front"): 19,
    ("sources", "front", "url"): 20,
    ("sources", "front", "backoff", "longest"): 21,
    ("prompt",): 22,
    ("prompt", 0): 22,
    ("prompt", 0, "text"): 23,
    ("prompt", 1): 26,
    ("prompt", 1, "text"): 27,
    ("prompt", 1, "deeper"): 28,
    ("prompt", 1, "deeper", "when"): 29,
    ("sources", "the back"): 30,
    ("sources", "the back", "url"): 31,
}


@pytest.mark.parametrize(("path", "line"), PLACES.items(), ids=[".".join(map(str, path)) for path in PLACES])
def test_keys_of_a_file_written_by_hand(path: Path, line: int) -> None:
    tomllib.loads(HAND_WRITTEN)
    assert LineIndex(HAND_WRITTEN).line(path) == line


@pytest.mark.parametrize(
    ("path", "line"),
    [(("device", "missing"), 4), (("device", "points", 2, "y", 9), 14), (("nothing",), 1), ((), 1)],
    ids=["in-a-table", "in-an-array", "nowhere", "the-file"],
)
def test_what_is_not_there_has_the_line_of_what_is_around_it(path: Path, line: int) -> None:
    assert LineIndex(HAND_WRITTEN).line(path) == line


def test_lines_are_those_of_a_file_with_carriage_returns_and_a_byte_order_mark() -> None:
    values, lines = parse("\ufeff[a]\r\n\r\nb = 1\r\n", "x.toml")
    assert values == {"a": {"b": 1}}
    assert lines.line(("a", "b")) == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = ", 2), ("a = 1\na = 2\n", 2), ("[a\n", 1), ("a = [\n1,\n", 3), ("a = " + "[" * 5000, 1)],
    ids=["no-value", "twice", "open-header", "open-array", "too-deep"],
)
def test_what_is_no_toml_names_the_line(text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=rf"^x\.toml:{line}: expected TOML: "):
        parse(text, "x.toml")


class Writer:
    """Writes TOML and remembers on which line each key came."""

    def __init__(self) -> None:
        self.text = ""
        self.places: dict[Path, int] = {}

    def note(self, path: Path) -> None:
        self.places.setdefault(path, self.text.count("\n") + 1)

    def value(self, value: Any, path: Path, breaks: bool) -> None:
        if isinstance(value, list):
            self.text += "[" + "\n # ]\n" * breaks
            for number, one in enumerate(value):
                self.note((*path, number))
                self.value(one, (*path, number), breaks)
                self.text += " ,\n" if breaks else ", "
            self.text += "]"
        elif isinstance(value, dict):
            self.text += "{"
            for number, (key, one) in enumerate(value.items()):
                self.text += ", " * (number > 0)
                self.pair(key, one, path, False)
            self.text += "}"
        else:
            self.text += str(value)

    def pair(self, key: str, value: Any, path: Path, breaks: bool) -> None:
        self.note((*path, key))
        self.text += key_text(key) + " = "
        self.value(value, (*path, key), breaks)


def key_text(key: str) -> str:
    plain = key.replace("_", "").replace("-", "").isalnum() and key.isascii()
    return key if plain else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


SCALARS = st.sampled_from(
    ["1", "-0.5", "true", "inf", "2026-01-31", '"a # [b] = {c}"', "'lit\\'", '"\\""', "''", '""', '"é ü"', "[ ]",
     '"""\na = 1\n[x]\n"""', "'''\n#\n'''", '"""q"""""', "''''s'''", '"""\\"""\\""""""']
)  # fmt: skip
KEYS = st.sampled_from(["a", "b", "c-d", "e_1", "with space", 'q"uote', "dot.ted", "back\\slash", "#", "[x]", "é"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
TABLES = st.lists(st.tuples(st.booleans(), st.dictionaries(KEYS, VALUES, max_size=4), st.booleans()), max_size=5)


@settings(max_examples=60, deadline=None)
@given(first=st.dictionaries(KEYS, VALUES, max_size=3), tables=TABLES, indent=st.sampled_from(["", "  ", "\t"]))
def test_every_key_of_any_file_is_on_its_line(
    first: dict[str, Any], tables: list[tuple[bool, dict[str, Any], bool]], indent: str
) -> None:
    writer = Writer()
    for key, value in first.items():
        writer.text += indent
        writer.pair(key, value, (), True)
        writer.text += "  # comment = [\n"
    count = 0
    for number, (several, pairs, breaks) in enumerate(tables):
        path: Path = ("list", count) if several else (f"table {number}",)
        writer.text += "\n" * breaks + indent
        writer.note(path)
        writer.text += "[[list]]\n" if several else f"[ {key_text(str(path[0]))} ]\n"
        count += several
        for key, value in pairs.items():
            writer.text += indent
            # Inline tables may not be broken over lines.
            writer.pair(key, value, path, breaks and not _has_table(value))
            writer.text += "\n"
    tomllib.loads(writer.text)
    lines = LineIndex(writer.text)
    assert {path: lines.line(path) for path in writer.places} == writer.places


def _has_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_table, value)))
