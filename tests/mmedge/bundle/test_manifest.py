"""The manifest: what it says is checked as a whole, and what it does not say is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundles import signed, write_bundle

from mmedge.bundle import FORMAT, Manifest, open_bundle
from mmedge.errors import BundleFormatError


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    with open_bundle(write_bundle(tmp_path_factory.mktemp("m") / "tiny.mmedge")) as bundle:
        return bundle.manifest.dumps()


def test_a_manifest_survives_the_way_to_json_and_back(text: str) -> None:
    assert Manifest.loads(text).dumps() == text


def remove(*path: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        *parents, last = path
        for key in parents:
            value = value[key]
        del value[last]

    return change


def put(new: Any, *path: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        *parents, last = path
        for key in parents:
            value = value[key]
        value[last] = new

    return change


DEFECTS = {
    "newer-format": (put(FORMAT + 1, "format"), "update mmedge"),
    "format-is-text": (put("1", "format"), "format must be an integer"),
    "no-name": (remove("name"), "name is missing"),
    "unknown-field": (put(1, "colour"), "unknown fields: colour"),
    "unknown-task": (put("dance", "task", "kind"), "task.kind must be one of"),
    "unknown-modality-kind": (put("smell", "inputs", "image", "kind"), "must be one of"),
    "stage-removed": (remove("stages", 0), "a stage is missing"),
    "all-stages-removed": (put([], "stages"), "no stage gives the outputs"),
    "stage-out-of-order": (lambda m: m["stages"].reverse(), "missing or out of order"),
    "stage-named-twice": (put("image", "stages", 1, "name"), "names must differ"),
    "stage-without-file": (put({}, "stages", 0, "files"), "must map precision to path"),
    "stage-of-other-variant": (put({"int8": "stages/image.onnx"}, "stages", 0, "files"), "no file for variant"),
    "stage-file-unlisted": (put("stages/none.onnx", "stages", 0, "files", "fp32"), "not in files"),
    "label-of-no-modality": (put(["smell"], "stages", 0, "label"), "unknown modality"),
    "label-hides-a-modality": (put(["image"], "stages", 2, "label"), "reads \\['text'\\] as well"),
    "tensor-given-twice": (put("image_vec", "stages", 1, "outputs", 0, "name"), "given already"),
    "output-shadows-an-input": (put("pixels", "stages", 0, "outputs", 0, "name"), "given already"),
    "task-output-lost": (put("gone", "task", "logits"), "the task needs outputs gone"),
    "output-lost": (put("gone", "outputs", 0, "name"), "no stage gives"),
    "no-variants": (put({}, "variants"), "at least one precision"),
    "variant-tolerance-nan": (put(float("nan"), "variants", "fp32", "tolerance"), "must be finite"),
    "hash-is-no-hash": (put("abc", "files", "tokenizer.json", "sha256"), "64 hex digits"),
    "negative-size": (put(-1, "files", "tokenizer.json", "size"), "at least 0"),
    "negative-axis": (put([-1], "outputs", 0, "shape"), "sizes are 0 or more"),
    "boolean-axis": (put([True], "outputs", 0, "shape"), "must be a size"),
    "unknown-dtype": (put("complex64", "outputs", 0, "dtype"), "must be one of"),
    "std-of-zero": (put([0, 1, 1], "inputs", "image", "std"), "std > 0"),
    "name-with-a-slash": (put("a/b", "stages", 0, "name"), "no valid name"),
    "is-a-list": (None, "must be an object"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_one_error_that_names_its_place(defect: str, text: str) -> None:
    change, message = DEFECTS[defect]
    value = json.loads(text)
    if change is None:
        value = [value]
    else:
        change(value)
    with pytest.raises(BundleFormatError, match=message):
        Manifest.loads(signed(value))


@pytest.mark.parametrize("damaged", ["", "{", "\x00", "[" * 100_000, '{"format": 1e999}'], ids=range(5))
def test_what_is_no_json_is_one_error(damaged: str) -> None:
    with pytest.raises(BundleFormatError):
        Manifest.loads(damaged)


def test_every_field_can_be_missing_or_of_another_type(text: str) -> None:
    """Whatever is wrong with a field is one typed error; a missing field is always one."""
    for path in paths(json.loads(text)):
        for change in (remove(*path), put([{}], *path), put("\ud7ff", *path), put(-7, *path), put(None, *path)):
            value = json.loads(text)
            change(value)
            error: Exception | None = None
            try:
                Manifest.loads(signed(value))
            except BundleFormatError as raised:
                error = raised
            if len(path) == 1 and path[0] not in value and path[0] != "digest":
                assert error is not None, path


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every field and list item."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in ((*here, key), *paths(item, (*here, key)))]


def test_writing_puts_files_where_they_belong(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", form="folder")
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "goldens.npz",
        "manifest.json",
        "stages/image+text.onnx",
        "stages/image.onnx",
        "stages/text.onnx",
        "tokenizer.json",
    ]
