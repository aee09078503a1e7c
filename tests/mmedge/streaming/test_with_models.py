"""Streams of real models: prompts that change, and pictures that change their size."""

from __future__ import annotations

import random
import threading
from itertools import pairwise
from pathlib import Path

from support.bundles import write_bundle
from support.media import Script

from mmedge.cli.score import overlap
from mmedge.model import load
from mmedge.results import Grounding
from mmedge.sources import TabletopSource, open_source
from mmedge.sources.frame import Frame
from mmedge.streaming import stream

LISTS = [["red", "green"], ["blue"], ["green", "blue", "red"], ["red"]]


def test_prompts_swapped_a_thousand_times_are_never_mixed(tmp_path: Path) -> None:
    """At random moments, from another thread: every result has the labels and the number of scores of its version."""
    chance = random.Random(4)
    versions: dict[int, list[str]] = {}
    swapped = threading.Event()
    pause = threading.Event()
    with load(write_bundle(tmp_path / "colour.mmedge")) as model:

        def swap() -> None:
            for _ in range(1000):
                labels = chance.choice(LISTS)
                model.set_text(labels)
                versions[model.prompt_version] = labels
                pause.wait(chance.choice([0, 0, 0.0005, 0.002]))
            swapped.set()

        model.set_text(LISTS[0])
        versions[1] = LISTS[0]
        swapping = threading.Thread(target=swap)
        found: list[tuple[int, list[str], int]] = []
        with stream(model, [Script(live=False, name="file"), Script(interval=0.002, name="camera")]) as results:
            next(results)
            swapping.start()
            for result in results:
                shown = result.to_json()
                found.append((result.prompt_version, shown["labels"], len(shown["scores"])))
                if swapped.is_set():
                    break
        swapping.join()
    assert len(versions) == 1001
    assert all((labels, scores) == (versions[version], len(labels)) for version, labels, scores in found)
    assert all(later[0] >= earlier[0] for earlier, later in pairwise(found))
    assert len({version for version, _, _ in found}) > 50


class Resizing:
    """The synthetic table, seen by a camera that changes its size after `at` frames."""

    name, live, fps, frame_count, incomplete = "resizing", False, 30.0, None, None

    def __init__(self, at: int, sizes: list[tuple[int, int]]) -> None:
        self._at = at
        self.tables: list[TabletopSource] = []
        for width, height in sizes:
            table = open_source(f"tabletop://?seed=11&live=0&width={width}&height={height}&frames={at * len(sizes)}")
            assert isinstance(table, TabletopSource)
            self.tables.append(table)
        self._index = 0

    def read(self) -> Frame | None:
        if self._index == self._at * len(self.tables):
            return None
        table = self.tables[self._index // self._at]
        frames = [table.read() for table in self.tables]
        self._index += 1
        return frames[self.tables.index(table)]

    def close(self) -> None:
        for table in self.tables:
            table.close()


def test_boxes_are_those_of_the_new_frame_after_a_resize() -> None:
    sizes = [(640, 480), (320, 240), (800, 608)]
    camera = Resizing(5, sizes)
    prompts = ["a cube", "a ball", "a cylinder", "a cone"]
    right = dict.fromkeys(sizes, 0)
    found = dict.fromkeys(sizes, 0)
    with load(threads=2) as model:
        model.set_text(prompts)
        with stream(model, camera) as results:
            for frame, result in results.with_frames():
                assert isinstance(result, Grounding)
                height, width = frame.image.shape[:2]
                truth = camera.tables[sizes.index((width, height))].truth(result.frame)
                assert truth is not None
                for box in result.boxes.tolist():
                    assert box[2] <= width + 1
                    assert box[3] <= height + 1
                    found[width, height] += 1
                    right[width, height] += any(overlap(box, thing.box) >= 0.5 for thing in truth.objects)
    assert all(found[size] >= 4 for size in sizes), found
    assert all(right[size] >= 0.8 * found[size] for size in sizes), (right, found)
