"""The ROS 2 sink."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from mmedge.errors import InputError, SinkError
from mmedge.results import Classification, Grounding
from mmedge.sinks.commands import Commands
from mmedge.sinks.jpeg import check_quality, encode_jpeg
from mmedge.sinks.naming import slug
from mmedge.sinks.records import encode
from mmedge.sinks.ros2 import messages as ros
from mmedge.sinks.ros2.convert import classification, detections, header
from mmedge.sinks.ros2.node import Node
from mmedge.sinks.sink import Item, Observation, PromptsChange, SinkContext
from mmedge.streaming.states import StateChange
from mmedge.triggers.event import Event

_MOST_DOMAIN = 232
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")


class Ros2:
    """Publishes what happens as ROS 2 topics over DDS, and takes prompts from there. See ``docs/ros2.md``.

    Sources that `context` does not name share the topics right below the namespace.

    Args:
        namespace: Before all topics, such as ``robot1/door``, without a slash at its ends; None: ``mmedge``.
        domain: The ``ROS_DOMAIN_ID`` of those who shall see it, 0 to 232.
        image_rate: Most pictures a second for each source; 0: none.
        image_quality: Of their JPEG, 1 to 100.
        context: The sources, and who carries out commands.

    Raises:
        InputError: An option cannot be used.
        MissingDependencyError: cyclonedds is not installed.
        SinkError: There is no network interface for it.
    """

    kind = "ros2"

    def __init__(
        self,
        *,
        namespace: str | None = None,
        domain: int = 0,
        image_rate: float = 5.0,
        image_quality: int = 80,
        context: SinkContext | None = None,
    ) -> None:
        context = context or SinkContext()
        self._namespace = _checked(namespace, domain, image_rate)
        self._quality = check_quality(image_quality)
        self._image_rate = image_rate if context.pixels else 0.0
        self.pixels = self._image_rate > 0
        self._next_image: dict[str, float] = {}
        self._shown: dict[str, tuple[str, ...]] = {}
        self._places = {one.name: f"{self._namespace}/{_name(one.name)}" for one in context.sources}
        self._models = {one.model: f"{self._namespace}/{_name(one.model)}" for one in context.sources}
        self._node = Node(domain)
        self._commands: Commands | None = None
        self._advertise(context)
        if context.control is not None and self._models:
            self._commands = Commands(context.control, self._changed, self._refused)
            for model, place in self._models.items():
                self._node.advertise(f"{place}/prompts_error", ros.String)
                self._node.subscribe(f"{place}/set_prompts", partial(self._command, model))

    def write(self, item: Item) -> None:
        """Publish one item.

        Raises:
            SinkError: It could not be sent.
        """
        if isinstance(item, Observation):
            self._observation(item)
        elif isinstance(item, Event):
            self._node.publish(f"{self._place(item.source)}/events", _text(encode(item.to_json())))
        elif isinstance(item, StateChange):
            self._node.publish(f"{self._place(item.source)}/state", _text(encode(item.to_json())), "latched")
        elif isinstance(item, PromptsChange):
            self._show_prompts(item.model, item.prompts)

    def close(self) -> None:
        """Leave the domain."""
        if self._commands is not None:
            self._commands.close()
        self._node.close()

    def _observation(self, item: Observation) -> None:
        result, place = item.result, self._place(item.result.source)
        if isinstance(result, Grounding):
            self._node.publish(f"{place}/detections", detections(result))
        elif isinstance(result, Classification):
            self._node.publish(f"{place}/classification", classification(result))
        if item.frame is None or not self.pixels or result.captured < self._next_image.get(place, -math.inf):
            return
        self._next_image[place] = result.captured + 1 / self._image_rate
        picture = ros.CompressedImage(header(result), "jpeg", encode_jpeg(item.frame.image, self._quality))
        self._node.publish(f"{place}/image/compressed", picture, "sensor")

    def _advertise(self, context: SinkContext) -> None:
        for watched in context.sources:
            place = self._places[watched.name]
            if watched.boxes:
                self._node.advertise(f"{place}/detections", ros.Detection2DArray)
            else:
                self._node.advertise(f"{place}/classification", ros.Classification)
            if self.pixels:
                self._node.advertise(f"{place}/image/compressed", ros.CompressedImage, "sensor")
            self._node.advertise(f"{place}/events", ros.String)
            self._node.advertise(f"{place}/state", ros.String, "latched")
            self._show_prompts(watched.model, watched.prompts)

    def _show_prompts(self, model: str, prompts: Sequence[str]) -> None:
        # A command and the change that follows from it tell the same.
        if self._shown.get(model) != tuple(prompts) and (place := self._models.get(model)) is not None:
            self._shown[model] = tuple(prompts)
            self._node.publish(f"{place}/prompts", _text(encode(list(prompts))), "latched")

    def _command(self, model: str, text: str) -> None:
        if self._commands is not None:
            self._commands.put(model, text.encode("utf-8", "surrogateescape"), False)

    def _changed(self, model: str, prompts: tuple[str, ...], _version: int) -> None:
        with contextlib.suppress(SinkError):
            self._show_prompts(model, prompts)

    def _refused(self, model: str, reason: str) -> None:
        with contextlib.suppress(SinkError):
            self._node.publish(f"{self._models[model]}/prompts_error", ros.String(reason))

    def _place(self, source: str) -> str:
        return self._places.get(source, self._namespace)


def open_ros2(
    context: SinkContext,
    *,
    namespace: str | None = None,
    domain: int = 0,
    image_rate: float = 5.0,
    image_quality: int = 80,
) -> Ros2:
    """The sink of these options; see `Ros2`."""
    return Ros2(namespace=namespace, domain=domain, image_rate=image_rate, image_quality=image_quality, context=context)


def _checked(namespace: str | None, domain: int, image_rate: float) -> str:
    if namespace is not None and (not _NAME.fullmatch(namespace) or "__" in namespace or len(namespace) > 100):
        raise InputError(
            "ros2: namespace must be names of letters, digits and single _ with slashes between them, such as "
            f"'robot1/door', got {namespace!r}"
        )
    if isinstance(domain, bool) or not isinstance(domain, int) or not 0 <= domain <= _MOST_DOMAIN:
        raise InputError(f"ros2: domain must be a whole number from 0 to {_MOST_DOMAIN}, got {domain!r}")
    if not 0 <= image_rate <= 1000:
        raise InputError(f"ros2: image_rate must be 0 to 1000 a second, got {image_rate!r}")
    return "mmedge" if namespace is None else namespace


def _name(text: str) -> str:
    """`text` as ROS 2 takes a name: it starts with a letter, and two underscores in a row are reserved."""
    name = re.sub("_+", "_", slug(text, "A-Za-z0-9_")).strip("_")
    return name if name[:1].isalpha() else f"n{name}"


def _text(payload: bytes) -> Any:
    return ros.String(payload.decode())
