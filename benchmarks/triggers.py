"""Triggers on synthetic clips with known events, and numbers of tracks against the truth.

    python benchmarks/triggers.py [--cameras 8] [--first-seed 3000]
    python benchmarks/triggers.py --quick          # one camera, short clips: does it run?

Each camera looks at a table of its own on which things come and go (`trigger_bench.clips`): 30 s of background, in
which nothing appears that a trigger asks for and everything else goes on, and 180 s with events, at 5 frames a second.
The built-in model is asked for four prompts and what is most like them. Rules and defaults were chosen on the seeds
from 1000 to 1203, and one limit after a run on those from 2000 to 2011; nothing was chosen on those of 3000 and more.
An event is a time of a second and more for which a thing that the prompt describes is in view, by the renderer's truth.

There is no classification bundle with trained weights to measure: the built-in model's best score of each prompt, taken
as a classification of the whole picture, stands in, once with a shifted scale, once through a softmax over all prompts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from contenders.report import RESULTS, table, write
from trigger_bench.clips import Camera, Clip, camera
from trigger_bench.scoring import Counts, Span, compare, spans
from trigger_bench.tracks import TrackCounts, follow

import mmedge
from mmedge.results import Classification, Grounding, Result
from mmedge.sinks.sink import Observation, PromptsChange
from mmedge.tabletop import Tabletop, matches
from mmedge.triggers.background import Background
from mmedge.triggers.settings import Activation, TriggerSettings
from mmedge.triggers.thresholds import Goal
from mmedge.triggers.tracking import Tracker
from mmedge.triggers.trigger_set import TriggerSet

FPS = 5.0
KINDS = ("colour and shape", "colour and shape", "shape", "relation")
THRESHOLD, LOWEST = 0.5, 0.01
SHIFT = 6.0
PLAIN = TriggerSettings("plain", "-", on=THRESHOLD, off=THRESHOLD, min_duration=0, end_after=0, cool_down=0)
DURATIONS = TriggerSettings("durations", "-", on=THRESHOLD, off=THRESHOLD)
EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)
Frames = list[tuple[Grounding, tuple[bool, ...]]]
View = Callable[[Grounding], Result]


@dataclass(frozen=True)
class Recording:
    """What the model says about the clips of a camera, and whether each prompt was there."""

    camera: Camera
    prompts: tuple[str, ...]
    background: Frames
    events: Frames


@dataclass(frozen=True)
class Way:
    """One way of making events of scores.

    Attributes:
        view: The result as the trigger sees it.
        settings: Fixed thresholds, or None: calibrated ones.
        negatives: Whether prompts are compared with what is like them.
        floor: See `Goal.floor`.
        activation: See `TriggerSettings`.
    """

    name: str
    view: View
    settings: TriggerSettings | None = None
    negatives: bool = False
    floor: float | None = None
    activation: Activation = "softmax"


def detections(result: Grounding) -> Grounding:
    """The result at the bundle's own threshold, as it runs on a device."""
    kept = result.scores >= THRESHOLD
    return replace(
        result,
        labels=tuple(label for label, keep in zip(result.labels, kept, strict=True) if keep),
        scores=result.scores[kept],
        boxes=result.boxes[kept],
        prompts=result.prompts[kept],
    )


def shifted(prompts: Sequence[str]) -> View:
    """Scores of a sigmoid whose scale nobody adjusted."""
    return lambda result: classification(result, prompts, 1 / (1 + np.exp(SHIFT - logits(result))))


def softmax(prompts: Sequence[str]) -> View:
    """Scores that share a sum."""

    def view(result: Grounding) -> Result:
        powers = np.exp(logits(result))
        return classification(result, prompts, powers / powers.sum())

    return view


def logits(result: Grounding) -> np.ndarray:
    scores = np.clip(result.all_scores.astype(np.float64), 1e-9, 1 - 1e-7)
    return np.asarray(np.log(scores / (1 - scores)))


def classification(result: Grounding, prompts: Sequence[str], scores: np.ndarray) -> Classification:
    stamp = {name: getattr(result, name) for name in ("source", "frame", "captured", "captured_at", "age_ms")}
    return Classification(**stamp, latency_ms=0.0, labels=tuple(prompts), scores=scores.astype(np.float32))


def ways(prompts: Sequence[str]) -> dict[str, list[Way]]:
    """By table."""
    by_kind: dict[str, list[Way]] = {
        "boxes": [
            Way("0.5, nothing else", detections, PLAIN),
            Way("0.5, durations", detections, DURATIONS),
            Way("calibrated", detections, floor=THRESHOLD),
            Way("calibrated, negatives", detections, negatives=True, floor=THRESHOLD),
            Way("calibrated, no floor", detections),
        ]
    }
    stand_ins: dict[str, tuple[View, Activation]] = {
        "shifted sigmoid": (shifted(prompts), "sigmoid"),
        "softmax": (softmax(prompts), "softmax"),
    }
    for name, (view, activation) in stand_ins.items():
        by_kind[name] = [
            Way("0.5, nothing else", view, PLAIN),
            Way("0.5, durations", view, DURATIONS),
            Way("calibrated", view),
            Way("calibrated, negatives", view, negatives=True, activation=activation),
        ]
    return by_kind


def record(model: mmedge.Model, seen: Camera) -> Recording:
    prompts = tuple(dict.fromkeys([*seen.prompts, *(rival for rivals in seen.negatives for rival in rivals)]))
    model.set_text(prompts)
    clips = [[(result, flags) for result, flags, _, _ in run(model, clip, seen.prompts)] for clip in clips_of(seen)]
    return Recording(seen, prompts, *clips)


def clips_of(seen: Camera) -> tuple[Clip, Clip]:
    return seen.background, seen.events


def run(
    model: mmedge.Model, clip: Clip, prompts: Sequence[str]
) -> Iterator[tuple[Grounding, tuple[bool, ...], Any, tuple[str, ...]]]:
    for time, image, truth, names in clip.frames():
        result = model(image)
        assert isinstance(result, Grounding)
        timed = replace(result, source="camera", captured=time, captured_at=EPOCH, media_time_s=time)
        yield timed, tuple(bool(matches(prompt, truth)) for prompt in prompts), truth, names


def triggers_of(way: Way, recording: Recording) -> list[TriggerSettings | None]:
    """One for each prompt; None where the calibration refuses."""
    seen = recording.camera
    rivals = seen.negatives if way.negatives else ((),) * len(seen.prompts)
    if way.settings is not None:
        return [replace(way.settings, name=prompt, prompt=prompt) for prompt in seen.prompts]
    background = Background(dict(zip(seen.prompts, rivals, strict=True)), activation=way.activation)
    # A calibration asks the model for more than its own threshold shows.
    view: View = (lambda result: result) if way.view is detections else way.view
    for result, _ in recording.background:
        background.add(in_order(view(result), recording.prompts, background.prompts))
    found = background.thresholds(Goal(0.1, 0.4, way.floor, bounded=True))
    return [
        None
        if entry.refused
        else TriggerSettings(
            entry.prompt, entry.prompt, on=entry.on, off=entry.off, negatives=entry.negatives, activation=way.activation
        )
        for entry in found
    ]


def in_order(result: Result, given: Sequence[str], wanted: Sequence[str]) -> Result:
    """A grounding whose best scores are those of `wanted`, as if the model had been asked for these only."""
    if not isinstance(result, Grounding):
        return result
    return replace(result, all_scores=result.all_scores[[given.index(prompt) for prompt in wanted]])


def judge(way: Way, recording: Recording) -> tuple[list[Counts], int]:
    """Counts of each prompt, and the number of refused ones."""
    settings = triggers_of(way, recording)
    running = TriggerSet([trigger for trigger in settings if trigger is not None])
    running.prompts_changed(PromptsChange("model", ("camera",), recording.prompts, 0, EPOCH))
    told: dict[str, list[Span]] = {prompt: [] for prompt in recording.camera.prompts}
    events = [
        event
        for result, _ in recording.events
        for event in running.observe(Observation(None, replace(way.view(result), prompt_version=0)))
    ]
    for event in [*events, *running.stop()]:
        if event.kind == "end":
            told[event.prompt].append((event.at - event.duration_s, event.at))
    times = [result.captured for result, _ in recording.events]
    counts = []
    for index, prompt in enumerate(recording.camera.prompts):
        happened = spans(times, [flags[index] for _, flags in recording.events], bridge=0.45)
        counts.append(compare(told[prompt], happened, times[-1]))
    return counts, settings.count(None)


def judge_all(recordings: Sequence[Recording]) -> dict[str, list[dict[str, Any]]]:
    report: dict[str, list[dict[str, Any]]] = {}
    for kind, among in ways(()).items():
        rows = []
        for place, way in enumerate(among):
            totals = {name: Counts() for name in KINDS}
            refused = 0
            for recording in recordings:
                counts, without = judge(ways(recording.prompts)[kind][place], recording)
                refused += without
                for name, count in zip(KINDS, counts, strict=True):
                    totals[name] = totals[name] + count
            whole = sum(totals.values(), Counts())
            by_prompt = {name: count.to_json() for name, count in totals.items()}
            rows.append({"way": way.name, **whole.to_json(), "refused": refused, "by_prompt": by_prompt})
        report[kind] = rows
        print(f"\n{kind}\n\n{shown(rows)}\n", flush=True)
    return report


def shown(rows: list[dict[str, Any]]) -> str:
    heads = ("trigger", "precision", "recall", "F1", "false starts an hour", "told again", *dict.fromkeys(KINDS))
    lines = [
        [
            row["way"],
            f"{row['precision']:.3f}",
            f"{row['recall']:.3f}",
            f"{row['f1']:.3f}",
            f"{row['false_per_hour']:.1f}",
            row["repeated"],
            *(f"{row['by_prompt'][name]['f1']:.3f}" for name in dict.fromkeys(KINDS)),
        ]
        for row in rows
    ]
    return table(heads, lines)


def track(model: mmedge.Model, first_seed: int, clips: int) -> dict[str, Any]:
    """Numbers of tracks: on scenes of the built-in camera, many things at once, and on visits, few and fast."""
    report = {}
    for fps in (10, 5):
        slow, fast = TrackCounts(), TrackCounts()
        for seed in range(first_seed, first_seed + clips):
            slow = slow + follow(Tracker(), scene_frames(model, seed, fps), 1 / fps)
            seen = camera(seed, 2 * fps, 2, 30)
            model.set_text(seen.prompts)
            frames = run(model, seen.events, seen.prompts)
            fast = fast + follow(Tracker(), ((r.captured, detections(r), t, n) for r, _, t, n in frames), 0.5 / fps)
        report[f"scenes, {fps} fps"], report[f"visits, {2 * fps} fps"] = slow.to_json(), fast.to_json()
    heads = ("clips", *next(iter(report.values())))
    print(table(heads, [[name, *row.values()] for name, row in report.items()]))
    return report


def scene_frames(model: mmedge.Model, seed: int, fps: int) -> Iterator[Any]:
    model.set_text(["a thing", "the cube", "the ball", "the ring"])
    table_camera = Tabletop(seed, (320, 240), fps, scene_seconds=16)
    for index in range(16 * fps):
        image, truth = table_camera.frame(index)
        result = model(image)
        assert isinstance(result, Grounding)
        timed = replace(result, source="camera", captured=index / fps, captured_at=EPOCH)
        yield index / fps, detections(timed), truth, tuple(f"block{i}" for i in range(len(truth.objects)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=3000)
    parser.add_argument("--quick", action="store_true", help="one camera, short clips; nothing is written")
    arguments = parser.parse_args()
    if arguments.cameras < 1:
        parser.error(f"--cameras must be at least 1, got {arguments.cameras}")
    first = 1000 if arguments.quick else arguments.first_seed
    cameras, background_s, events_s = (1, 12, 20) if arguments.quick else (arguments.cameras, 30, 180)
    with mmedge.load(engine="onnxruntime", threshold=LOWEST, threads=1) as model:
        recordings = []
        for seed in range(first, first + cameras):
            recordings.append(record(model, camera(seed, FPS, background_s, events_s)))
            print(f"camera {seed}: {', '.join(recordings[-1].camera.prompts)}", file=sys.stderr, flush=True)
        report: dict[str, Any] = judge_all(recordings)
        report["tracks"] = track(model, first + 100, 1 if arguments.quick else 2)
    if not arguments.quick:
        about: dict[str, Any] = {"seeds": [first, first + cameras - 1], "chosen_on_seeds": [[1000, 1203], [2000, 2011]]}
        about |= {"fps": FPS, "background_s": background_s, "events_s": events_s, "model": "built-in tabletop"}
        write(Path(RESULTS) / "triggers.json", {**about, **report})


if __name__ == "__main__":
    main()
