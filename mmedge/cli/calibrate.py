"""``mmedge calibrate``: thresholds of triggers from a clip of the background."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mmedge.cli.exits import FAILED, INTERRUPTED
from mmedge.cli.prompts import gather_prompts
from mmedge.cli.text import printable

if TYPE_CHECKING:
    from mmedge.bundle import Task
    from mmedge.model import Model
    from mmedge.triggers.background import Background
    from mmedge.triggers.calibration import Calibration
    from mmedge.triggers.settings import Activation
    from mmedge.triggers.thresholds import Goal, PromptThresholds

_LOWEST_SCORE = 0.01
"""Lowest score of a detection while calibrating: what the model would not call one belongs to the background, too."""


def calibrate(
    source: Annotated[str, typer.Argument(help="What the triggers will watch: a camera, stream or video.")],
    bundle: Annotated[Path | None, typer.Argument(help="NAME.mmedge; without it, the built-in tabletop model.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Prompt of a trigger; give it again for more.")] = None,
    text_file: Annotated[Path | None, typer.Option(help="A file with one prompt a line.")] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="What no prompt must be confused with; give it again for more.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of the clip.", min=12, max=3600)] = 30.0,
    false_alarms: Annotated[
        float, typer.Option(help="False alarms to aim at, an hour and prompt.", min=1e-4, max=60)
    ] = 0.1,
    min_duration: Annotated[float, typer.Option(help="As the triggers will have it, seconds.", min=0, max=2)] = 0.4,
    out: Annotated[Path | None, typer.Option(help="File for the thresholds, TOML.")] = None,
    engine: Annotated[str, typer.Option(help="auto, onnxruntime, onnxruntime:cpu, …")] = "auto",
    precision: Annotated[str | None, typer.Option(help="A variant of the bundle.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the model.", min=1, max=256)] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds without a frame until a source is lost.", min=0.1, max=1e6)
    ] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="The thresholds as JSON.")] = False,
) -> None:
    """Watch a background in which nothing of interest happens, and set the thresholds of triggers from its scores.

    Let everything go on that usually does. Exit code 1: for some prompts there is no threshold.
    """
    from mmedge.model import load
    from mmedge.triggers.background import Background
    from mmedge.triggers.thresholds import Goal

    prompts = list(dict.fromkeys(gather_prompts(text or [], text_file)))
    if not prompts:
        raise typer.BadParameter('calibrate needs at least one prompt: --text "..."')
    if out is not None and not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"--out {out}: there is no such folder")
    floor, lowest, activation = _read_task(bundle)
    rivals = {prompt: [other for other in dict.fromkeys(negative or []) if other != prompt] for prompt in prompts}
    background = Background(rivals, activation=activation)
    goal = Goal(false_alarms, min_duration, floor, background.bounded)
    with load(bundle, engine=engine, precision=precision, threads=threads, threshold=lowest) as model:
        model.set_text(background.prompts)
        interrupted = _record(model, source, background, seconds, timeout)
        name = str(model.info()["name"])
    found = _calibration(background, goal, name, activation)
    _report(found, background, as_json=as_json)
    usable = replace(found, prompts=tuple(entry for entry in found.prompts if entry.refused is None))
    if out is not None and usable.prompts:
        from mmedge.triggers.calibration import save_calibration

        save_calibration(usable, out)
        sys.stderr.write(f"thresholds of {len(usable.prompts)} prompts in {out}\n")
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if len(usable.prompts) < len(found.prompts):
        raise typer.Exit(FAILED)


def _read_task(bundle: Path | None) -> tuple[float | None, float | None, Activation]:
    """The floor of thresholds and the lowest score of a detection, None where there are none, and the activation."""
    from mmedge.bundle import Classify, Ground
    from mmedge.errors import InputError
    from mmedge.loading import open_model

    with open_model(bundle) as opened:
        task: Task = opened.manifest.task
        name = opened.manifest.name
    if isinstance(task, Ground):
        return task.threshold, min(task.threshold, _LOWEST_SCORE), "sigmoid"
    if isinstance(task, Classify):
        return None, None, cast("Activation", task.activation)
    raise InputError(
        f"triggers need a model of task classify or ground; the task of {name} is {task.to_json()['kind']!r}"
    )


def _record(model: Model, source: str, background: Background, seconds: float, timeout: float) -> bool:
    """Fill `background`; returns whether somebody ended it from outside."""
    shown = -1
    with model.stream(source, timeout=timeout) as results:
        try:
            for result in results:
                background.add(result)
                if sys.stderr.isatty() and int(background.seconds) > shown:
                    shown = int(background.seconds)
                    sys.stderr.write(f"\r{shown:4d} of {seconds:g} s, {background.frames} frames ")
                if background.seconds >= seconds:
                    break
        except KeyboardInterrupt:
            return True
        finally:
            if shown >= 0:
                sys.stderr.write("\n")
    return False


def _calibration(background: Background, goal: Goal, model: str, activation: Activation) -> Calibration:
    from mmedge.triggers.calibration import Calibration

    return Calibration(
        model=model,
        source=background.name,
        made_at=datetime.now(timezone.utc),
        seconds=background.seconds,
        frames=background.frames,
        false_alarms_per_hour=goal.false_alarms_per_hour,
        min_duration=goal.min_duration,
        activation=activation,
        prompts=background.thresholds(goal),
    )


def _report(found: Calibration, background: Background, *, as_json: bool) -> None:
    from mmedge.triggers.calibration import prompt_values

    if as_json:
        value: dict[str, Any] = {
            "model": found.model,
            "source": found.source,
            "seconds": round(found.seconds, 3),
            "frames": found.frames,
            "passed_over": background.passed_over,
            "false_alarms_per_hour": found.false_alarms_per_hour,
            "prompts": [prompt_values(entry) for entry in found.prompts],
        }
        print(json.dumps(value, ensure_ascii=False))
        return
    print(f"{found.frames} frames in {found.seconds:.1f} s, {background.passed_over} passed over")
    for entry in found.prompts:
        print(_line(entry))
        for warning in entry.warnings if entry.refused is None else (entry.refused,):
            print(f"  {'warning' if entry.refused is None else 'no threshold'}: {warning}")


def _line(entry: PromptThresholds) -> str:
    seen = f"background {entry.typical:.4f}, highest {entry.highest:.4f}"
    if entry.refused is not None:
        return f"{printable(entry.prompt)}: {seen}"
    low, high = entry.on_range
    return f"{printable(entry.prompt)}: on {entry.on:.4f} ({low:.4f} to {high:.4f}), off {entry.off:.4f}; {seen}"
