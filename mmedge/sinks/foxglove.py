"""Messages that Foxglove shows without a plugin, as JSON values, and their JSON schemas.

The names and fields are those of https://docs.foxglove.dev/docs/sdk/schemas. Bytes travel as base64.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from typing import Any

from mmedge.drawing import captions, color_of
from mmedge.results import Classification, Grounding, Result

Json = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LINE_LOOP = 2
_FONT_PX = 16
_NONE: Json = {"r": 0.0, "g": 0.0, "b": 0.0, "a": 0.0}
_BLACK: Json = {"r": 0.0, "g": 0.0, "b": 0.0, "a": 0.6}
_RED: Json = {"r": 0.9, "g": 0.1, "b": 0.1, "a": 1.0}

INFO, WARNING = 2, 3


def nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970 in UTC; exact, which a float would not be."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def compressed_image(moment: datetime, frame_id: str, jpeg: bytes) -> Json:
    """A foxglove.CompressedImage."""
    data = base64.b64encode(jpeg).decode("ascii")
    return {"timestamp": _time(moment), "frame_id": frame_id, "data": data, "format": "jpeg"}


def log(moment: datetime, level: int, name: str, message: str) -> Json:
    """A foxglove.Log."""
    return {"timestamp": _time(moment), "level": level, "message": message, "name": name, "file": "", "line": 0}


def image_annotations(result: Result) -> Json:
    """A foxglove.ImageAnnotations with the boxes or the best scores of a result, and its state if that is not live."""
    moment = _time(result.captured_at)
    points: list[Json] = []
    texts: list[Json] = []
    if isinstance(result, Grounding):
        for box, prompt, caption in zip(result.boxes, result.prompts, captions(result), strict=True):
            x0, y0, x1, y1 = (round(float(value), 2) for value in box)
            color = _color(int(prompt))
            points.append(_box(moment, (x0, y0, x1, y1), color))
            texts.append(_text(moment, x0, y0, caption, color))
    elif isinstance(result, Classification):
        for line, index in enumerate(result.scores.argsort(kind="stable")[::-1][:5].tolist()):
            texts.append(_text(moment, 0, (line + 1) * (_FONT_PX + 4), captions(result)[index], _color(index)))
    if result.state != "live":
        texts.append(_text(moment, 0, _FONT_PX, result.state.upper(), _RED))
    return {"circles": [], "points": points, "texts": texts}


def _box(moment: Json, corners: tuple[float, float, float, float], color: Json) -> Json:
    x0, y0, x1, y1 = corners
    return {
        "timestamp": moment,
        "type": _LINE_LOOP,
        "points": [{"x": x, "y": y} for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))],
        "outline_color": color,
        "outline_colors": [],
        "fill_color": _NONE,
        "thickness": 2,
        "metadata": [],
    }


def _text(moment: Json, x: float, y: float, text: str, color: Json) -> Json:
    return {
        "timestamp": moment,
        "position": {"x": x, "y": y},
        "text": text,
        "font_size": _FONT_PX,
        "text_color": color,
        "background_color": _BLACK,
        "metadata": [],
    }


def _time(moment: datetime) -> Json:
    sec, nsec = divmod(nanoseconds(moment), 10**9)
    return {"sec": sec, "nsec": nsec}


def _color(prompt: int) -> Json:
    blue, green, red = color_of(prompt)
    return {"r": round(red / 255, 3), "g": round(green / 255, 3), "b": round(blue / 255, 3), "a": 1.0}


def _object(title: str | None = None, **fields: Json) -> Json:
    schema: Json = {"type": "object", "properties": fields, "required": list(fields)}
    return {"title": title, **schema} if title else schema


def _list(of: Json) -> Json:
    return {"type": "array", "items": of}


_STRING: Json = {"type": "string"}
_NUMBER: Json = {"type": "number"}
_INTEGER: Json = {"type": "integer"}
_TIME = _object("time", sec=_INTEGER, nsec=_INTEGER)
_POINT = _object("foxglove.Point2", x=_NUMBER, y=_NUMBER)
_METADATA = _list(_object("foxglove.KeyValuePair", key=_STRING, value=_STRING))
_COLOR = _object("foxglove.Color", r=_NUMBER, g=_NUMBER, b=_NUMBER, a=_NUMBER)
_CIRCLE = _object(
    "foxglove.CircleAnnotation",
    timestamp=_TIME,
    position=_POINT,
    diameter=_NUMBER,
    thickness=_NUMBER,
    fill_color=_COLOR,
    outline_color=_COLOR,
    metadata=_METADATA,
)
_POINTS = _object(
    "foxglove.PointsAnnotation",
    timestamp=_TIME,
    type=_INTEGER,
    points=_list(_POINT),
    outline_color=_COLOR,
    outline_colors=_list(_COLOR),
    fill_color=_COLOR,
    thickness=_NUMBER,
    metadata=_METADATA,
)
_TEXT = _object(
    "foxglove.TextAnnotation",
    timestamp=_TIME,
    position=_POINT,
    text=_STRING,
    font_size=_NUMBER,
    text_color=_COLOR,
    background_color=_COLOR,
    metadata=_METADATA,
)

SCHEMAS: dict[str, Json] = {
    "foxglove.CompressedImage": _object(
        "foxglove.CompressedImage",
        timestamp=_TIME,
        frame_id=_STRING,
        data={"type": "string", "contentEncoding": "base64"},
        format=_STRING,
    ),
    "foxglove.ImageAnnotations": _object(
        "foxglove.ImageAnnotations", circles=_list(_CIRCLE), points=_list(_POINTS), texts=_list(_TEXT)
    ),
    "foxglove.Log": _object(
        "foxglove.Log", timestamp=_TIME, level=_INTEGER, message=_STRING, name=_STRING, file=_STRING, line=_INTEGER
    ),
}
"""By name."""
