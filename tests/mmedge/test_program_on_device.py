"""Stages on one device are chained there: nothing comes to the host but what the caller gets and other engines need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import color_goldens, write_bundle

from mmedge.bundle import open_bundle
from mmedge.engines import EngineStage, open_engine
from mmedge.engines.tensorrt.serving import ServingStage
from mmedge.loading import load_stages
from mmedge.program import StagedProgram

Array = np.ndarray[Any, np.dtype[Any]]


class Handle:
    """An array that counts how often it is brought to the host."""

    def __init__(self, array: Array, copies: list[tuple[int, ...]]) -> None:
        self._array, self._copies = array, copies

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def nbytes(self) -> int:
        return self._array.nbytes

    def numpy(self) -> Array:
        self._copies.append(self.shape)
        return self._array.copy()


@dataclass
class DeviceStage:
    """A stage of a real engine whose results stay on a device that is none."""

    inner: EngineStage
    copies: list[tuple[int, ...]]
    engine: str = "device"
    provider: str = "somewhere"
    fallbacks: tuple[str, ...] | None = ()

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        return self.inner.run(feeds)

    def run_on_device(self, feeds: Mapping[str, Any]) -> dict[str, Handle]:
        host = {name: feed._array if isinstance(feed, Handle) else feed for name, feed in feeds.items()}
        return {name: Handle(array, self.copies) for name, array in self.inner.run(host).items()}


def program(path: Path, on_device: set[str], copies: list[tuple[int, ...]]) -> StagedProgram:
    with open_bundle(path) as bundle:
        stages: dict[str, EngineStage] = {
            name: DeviceStage(stage, copies) if name in on_device else stage
            for name, stage in load_stages(bundle, open_engine(), "fp32").items()
        }
        return StagedProgram(bundle.manifest, stages)


def answer(made: StagedProgram) -> Array:
    golden = color_goldens()[0]
    inputs = {
        name: made.prepare(name, {t.name: golden.inputs[t.name] for t in contract.tensors})
        for name, contract in made.manifest.inputs.items()
    }
    return made.run(inputs)["logits"]


@pytest.mark.parametrize(
    ("on_device", "expected"),
    [
        ({"image", "text", "image+text"}, [(1, 2)]),
        ({"image", "image+text"}, [(1, 2)]),
        ({"image", "text"}, [(1, 3), (2, 3)]),
        (set(), []),
    ],
    ids=["all", "text-on-the-host", "joint-on-the-host", "none"],
)
def test_only_what_the_host_needs_is_copied(
    on_device: set[str], expected: list[tuple[int, ...]], tmp_path: Path
) -> None:
    copies: list[tuple[int, ...]] = []
    made = program(write_bundle(tmp_path / "c.mmedge"), on_device, copies)
    np.testing.assert_array_equal(answer(made), color_goldens()[0].outputs["logits"])
    assert sorted(copies) == expected


def test_a_prompt_stays_on_the_device_while_frames_pass(tmp_path: Path) -> None:
    copies: list[tuple[int, ...]] = []
    made = program(write_bundle(tmp_path / "c.mmedge"), {"image", "text", "image+text"}, copies)
    for _ in range(3):
        answer(made)
    assert copies == [(1, 2)] * 3
    assert made.stats()["text"].runs == 1


def test_a_stage_that_serves_for_another_takes_what_lies_on_the_device(tmp_path: Path) -> None:
    copies: list[tuple[int, ...]] = []
    path = write_bundle(tmp_path / "c.mmedge")
    with open_bundle(path) as bundle:
        loaded = load_stages(bundle, open_engine(), "fp32")
        serving = ServingStage("image+text", loaded["image+text"])
        stages: dict[str, EngineStage] = {n: DeviceStage(s, copies) for n, s in loaded.items() if n != "image+text"}
        made = StagedProgram(bundle.manifest, {**stages, "image+text": serving})
    answer(made)
    assert sorted(copies) == [(1, 3), (2, 3)]
    copies.clear()
    serving.switch(DeviceStage(loaded["image+text"], copies))
    np.testing.assert_array_equal(answer(made), color_goldens()[0].outputs["logits"])
    assert copies == [(1, 2)]
