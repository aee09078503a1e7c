from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from support.sink_items import START, classification, observation

from mmedge.sinks.foxglove import SCHEMAS, compressed_image, image_annotations, log, nanoseconds

# The fields that Foxglove's published schemas require (foxglove-sdk, schemas/jsonschema).
REQUIRED = {
    "foxglove.CompressedImage": {"timestamp", "frame_id", "data", "format"},
    "foxglove.Log": {"timestamp", "level", "message", "name", "file", "line"},
    "foxglove.ImageAnnotations": {"circles", "points", "texts"},
    "foxglove.CircleAnnotation": {
        "timestamp", "position", "diameter", "thickness", "fill_color", "outline_color", "metadata",
    },
    "foxglove.PointsAnnotation": {
        "timestamp", "type", "points", "outline_color", "outline_colors", "fill_color", "thickness", "metadata",
    },
    "foxglove.TextAnnotation": {
        "timestamp", "position", "text", "font_size", "text_color", "background_color", "metadata",
    },
    "foxglove.Point2": {"x", "y"},
    "foxglove.Color": {"r", "g", "b", "a"},
    "foxglove.KeyValuePair": {"key", "value"},
    "time": {"sec", "nsec"},
}  # fmt: skip

TYPES = {"string": str, "number": (int, float), "integer": int, "array": list, "object": dict}


def schemas_in(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All objects of a schema by their title."""
    found = {schema["title"]: schema} if "title" in schema else {}
    for inner in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        found |= schemas_in(inner)
    return found


def check(value: Any, schema: dict[str, Any]) -> None:
    assert isinstance(value, TYPES[schema["type"]])
    if schema["type"] == "object":
        assert set(value) == set(schema["properties"])
        for name, inner in schema["properties"].items():
            check(value[name], inner)
    elif schema["type"] == "array":
        for one in value:
            check(one, schema["items"])


def test_schemas_have_the_fields_that_foxglove_requires() -> None:
    found: dict[str, dict[str, Any]] = {}
    for name, schema in SCHEMAS.items():
        assert schema["title"] == name
        found |= schemas_in(schema)
    assert {title: set(schema["required"]) for title, schema in found.items()} == REQUIRED
    assert SCHEMAS["foxglove.CompressedImage"]["properties"]["data"]["contentEncoding"] == "base64"


@pytest.mark.parametrize(
    "item", [observation(1), observation(1, state="frozen"), observation(1, boxes=0), classification()]
)
def test_annotations_are_what_their_schema_says(item: Any) -> None:
    check(image_annotations(item.result), SCHEMAS["foxglove.ImageAnnotations"])


def test_images_and_logs_are_what_their_schemas_say() -> None:
    check(compressed_image(START, "door", b"jpeg"), SCHEMAS["foxglove.CompressedImage"])
    check(log(START, 2, "door", "words"), SCHEMAS["foxglove.Log"])


def test_times_are_exact() -> None:
    moment = datetime(2099, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc)
    assert nanoseconds(moment) == 4102444799_999_999_000
