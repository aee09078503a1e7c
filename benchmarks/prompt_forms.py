"""What compiling the prompt saves: frames a second of the compiled bundle over the staged one, same engine and threads.

    python benchmarks/prompt_forms.py [--only small] [--rounds 15] [--threads 2] [--json out.json]
    python benchmarks/prompt_forms.py --quick       # the small model, two lengths: does it run?

Models with random weights: the built-in model with room for 77 tokens, a cross-attention model of the size of CLIP
(D=768, H=12, six layers over a ViT-B/16 tower's 196 tokens), and a small one. Each is exported twice, with and without
`Options.compile_prompts`, in fp32. For each number and length of prompts both run frames in turn, the one that begins
changing from round to round, with a pause before each; the ratio is the median of the rounds' ratios. The staged one
runs twice in each round: the ratio of its two turns, which should be 1, shows what the machine's own noise is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders.report import RESULTS, machine, milliseconds, ratios, table, verdict, write

import mmedge
import mmedge_export as mx
from mmedge_export.zoo.grounding import GroundingConfig, GroundingModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.fusion_models import CLIP_SIZED, FusionModel, Sizes, cross_attention_model, declared

PROMPTS, LENGTHS = (1, 4), (4, 8, 16, 32, 77)
WORDS = 64
PAUSE_S, TURN_S = 0.05, 0.25
FLOOR = 0.97


def built_in() -> FusionModel:
    """The architecture of the built-in model; its own position table ends at 24 tokens."""
    torch.manual_seed(0)
    config = GroundingConfig(vocabulary=WORDS, max_tokens=max(LENGTHS))
    text = declared(32, WORDS, config.max_tokens)["text"]
    image = mx.Image(size=(config.height, config.width), resize="stretch", crop="none", interpolation="bilinear")
    return FusionModel(_Scores(GroundingModel(config)).eval(), {"image": image, "text": text}, mx.Raw())


class _Scores(torch.nn.Module):
    """Its scores alone: which of several equal cells comes first is no difference of the program."""

    def __init__(self, model: GroundingModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"scores": self.model(pixel_values, input_ids, attention_mask)[0]}


MODELS: dict[str, Callable[[], FusionModel]] = {
    "small": lambda: cross_attention_model(Sizes(D=128, H=4, image_layers=2, layers=3, side=64, patch=8)),
    "built-in": built_in,
    "clip-sized": lambda: cross_attention_model(CLIP_SIZED),
}


@dataclass
class Runner:
    """A loaded bundle and the forms that its stages belong to."""

    model: mmedge.Model
    forms: dict[str, str | None]

    def set_text(self, prompts: tuple[str, ...]) -> float:
        """Seconds."""
        began = time.perf_counter()
        self.model.set_text(prompts)
        return time.perf_counter() - began

    def turn(self, frames: list[Any]) -> float:
        """Seconds for each frame."""
        # What the other session's threads still do is not to be measured here.
        time.sleep(PAUSE_S)
        began = time.perf_counter()
        for frame in frames:
            self.model(frame)
        return (time.perf_counter() - began) / len(frames)

    def form(self, frame: Any) -> str:
        """The form that runs for the prompts in force."""
        before = {name: stage["runs"] for name, stage in self.model.stats().items()}
        self.model(frame)
        ran = [name for name, stage in self.model.stats().items() if stage["runs"] > before[name]]
        return next((form for name in ran if (form := self.forms[name])), "the only one")


def main() -> None:
    arguments = parse()
    cases: list[dict[str, Any]] = []
    for name in arguments.only:
        cases += measure_model(name, arguments)
    goals = [
        verdict(f"{name}, least ratio over all prompts", min(c["ratio"]["median"] for c in cases if c["model"] == name),
                FLOOR) for name in arguments.only
    ]  # fmt: skip
    report = {**machine(arguments.threads), "engine": arguments.engine, "rounds": arguments.rounds}
    # A part of the models does not replace the result of all.
    path = arguments.json or (RESULTS / "prompt-forms-cpu.json" if set(arguments.only) == set(MODELS) else None)
    if path is not None:
        write(path, {**report, "goals": goals, "cases": cases})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engine", default="onnxruntime:cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="the small model and few sizes; nothing is written")
    arguments = parser.parse_args()
    arguments.counts, arguments.lengths = PROMPTS, LENGTHS
    if arguments.quick:
        arguments.only, arguments.rounds, arguments.counts, arguments.lengths = ["small"], 2, (2,), (4, 32)
    return arguments


def measure_model(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    source = MODELS[name]()
    with tempfile.TemporaryDirectory() as folder:
        exports = {rewrite: export(source, Path(folder), rewrite) for rewrite in (True, False)}
        sites = [f"{site.name}: {site.form} ({site.why})" for site in exports[True].manifest.sites]
        print(f"\n{name}: {len(sites)} attentions across modalities\n  " + "\n  ".join(sites))
        runners = {rewrite: load(report, arguments) for rewrite, report in exports.items()}
        rows = [
            {"model": name, **measure(source, runners[True], runners[False], n, length, arguments.rounds)}
            for n in arguments.counts
            for length in arguments.lengths
        ]
        for runner in runners.values():
            runner.model.close()
    heads = ("prompts", "tokens", "form", "compiled/s", "staged/s", "ratio", "range", "noise", "prompt ms")
    print(table(heads, [line(row) for row in rows]))
    errors = {rewrite: report.verification.errors for rewrite, report in exports.items()}
    return [{**row, "sites": sites, "relative_errors": errors[True]} for row in rows]


def export(source: FusionModel, folder: Path, rewrite: bool) -> mx.Report:
    out = folder / ("compiled" if rewrite else "staged")
    return source.export(out, compile_prompts=rewrite, form="folder")


def load(report: mx.Report, arguments: argparse.Namespace) -> Runner:
    model = mmedge.load(report.path, engine=arguments.engine, precision="fp32", threads=arguments.threads)
    return Runner(model, {stage.name: stage.form for stage in report.manifest.stages})


def measure(
    source: FusionModel, compiled: Runner, staged: Runner, count: int, length: int, rounds: int
) -> dict[str, Any]:
    """Interleaved rounds for prompts that all have the same length, so that none is padded."""
    random = np.random.default_rng([count, length])
    words = random.integers(1, WORDS, (count, length))
    prompts = tuple(" ".join(f"w{word}" for word in row) for row in words)
    frames = [random.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(4)]
    prompt_s = {"compiled": compiled.set_text(prompts), "staged": staged.set_text(prompts)}
    for runner in (compiled, staged):
        runner.turn(frames)
    each = max(1, round(TURN_S / staged.turn(frames)))
    batch = [frames[i % len(frames)] for i in range(each)]
    turns = {"compiled": compiled, "staged": staged, "again": staged}
    times: dict[str, list[float]] = {name: [] for name in turns}
    for index in range(rounds):
        for step in range(len(turns)):
            name = list(turns)[(index + step) % len(turns)]
            times[name].append(turns[name].turn(batch))
    return {
        "prompts": count,
        "tokens": length,
        "form": compiled.form(frames[0]),
        "compiled_frame_ms": milliseconds(times["compiled"]),
        "staged_frame_ms": milliseconds(times["staged"]),
        "ratio": ratios(times["staged"], times["compiled"]),
        "noise": ratios(times["staged"], times["again"]),
        "set_text_ms": {name: round(1000 * seconds, 3) for name, seconds in prompt_s.items()},
        "frames_per_turn": each,
    }


def line(row: dict[str, Any]) -> list[str]:
    ratio, prompt = row["ratio"], row["set_text_ms"]
    return [
        str(row["prompts"]),
        str(row["tokens"]),
        row["form"],
        f"{1000 / row['compiled_frame_ms']:.1f}",
        f"{1000 / row['staged_frame_ms']:.1f}",
        f"**{ratio['median']:.2f}**",
        f"{ratio['min']:.2f} to {ratio['max']:.2f}",
        f"{row['noise']['median']:.2f}",
        f"{prompt['compiled']:.1f} against {prompt['staged']:.1f}",
    ]


if __name__ == "__main__":
    main()
