"""What each precision costs the built-in model and what it saves: task figures and times of every variant and engine.

    python benchmarks/precision.py [--scenes 500] [--rounds 12] [--threads 2]      # every variant
    python benchmarks/precision.py --bundle NAME.mmedge                            # only what this bundle holds
    python benchmarks/precision.py --quick                                         # few scenes: does it run?

Without ``--bundle`` the built-in model is exported again with every variant whose arithmetic this processor has, also
those that the precision search would drop. Each variant finds things named by prompts in scenes with held-out pairs of
colour and shape; the scenes have a seed that neither training nor search has seen. Times are a frame of 640x480 with 4
prompts, interleaved over all rows; ratios are medians of the rounds' ratios. Writes JSON and a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contenders.report import RESULTS, machine, milliseconds, ratios, table, verdict, write

import mmedge
import mmedge_export as mx
from mmedge.errors import EngineError
from mmedge.loading import built_in_bundle
from mmedge.selection import AUTO, accepts
from mmedge.tabletop import Tabletop
from mmedge_export.bundle_source import export_bundle
from mmedge_export.precision import VARIANTS
from mmedge_export.precision.machine import this_machine
from mmedge_export.training.evaluation import evaluate
from mmedge_export.training.make_model import bundle_predictor

SEED = 3000
PROMPTS = ("the red cube", "a blue ball left of the cone", "any cylinder", "the green thing")
PAUSE_S, TURN = 0.05, 12
DROP = 0.01


@dataclass
class Row:
    """One variant on one engine.

    Attributes:
        figures: F1 of presence and mean IoU, see `mmedge_export.training.evaluation`.
        frame_s: Seconds of a frame, one for each round.
    """

    variant: str
    engine: str
    verified: bool
    model: mmedge.Model
    figures: dict[str, float]
    frame_s: list[float]

    @property
    def name(self) -> str:
        return f"{self.variant} on {self.engine}"


def main() -> None:
    arguments = parse()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundle = arguments.bundle or every_variant(folder, arguments.threads)
        rows = open_rows(stack, bundle, arguments.threads)
        for row in rows:
            figures = evaluate(bundle_predictor(row.model), seed=SEED, scenes=arguments.scenes)["main"]
            row.figures = {"F1": figures["presence_f1"], "IoU": figures["mean_iou"], "prompts": figures["prompts"]}
            print(f"{row.name}: {row.figures}", flush=True)
        take_turns(rows, arguments.rounds)
        with mmedge.open_bundle(bundle) as opened:
            searched = [measured.__dict__ for measured in opened.manifest.measured]
    base = next(row for row in rows if row.variant == "fp32")
    report = [to_json(row, base) for row in rows]
    text = table(("variant", "engine", "F1", "IoU", "ms a frame", "times fp32", "range", "verified"), lines(report))
    print(f"\n{text}\n")
    goals = judge(report)
    path = arguments.json or (None if arguments.quick else RESULTS / "precision-cpu.json")
    if path is not None:
        about = {"scenes": arguments.scenes, "seed": SEED, "rounds": arguments.rounds}
        write(path, {**machine(arguments.threads), **about, "rows": report, "searched": searched, "goals": goals})
        path.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, help="a grounding bundle; its variants are measured as they are")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="few scenes and rounds; nothing is written")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.scenes, arguments.rounds = 3, 2
    return arguments


def every_variant(folder: Path, threads: int) -> Path:
    """The built-in model with all variants whose arithmetic this processor has, whether they are worth it or not."""
    here = this_machine(threads)
    names = [variant.name for variant in VARIANTS.values() if here.tries(variant)]
    camera = Tabletop(seed=23)
    frames = [mx.Sample(camera.frame(60 * index)[0], PROMPTS) for index in range(8)]
    options = mx.Options(calibration=frames, force=True, threads=threads, progress=False)
    out = folder / "variants.mmedge"
    return export_bundle(built_in_bundle(), out=out, precision=",".join(names), options=options).path


def open_rows(stack: ExitStack, bundle: Path, threads: int) -> list[Row]:
    """Every variant on every engine that takes it; what cannot be loaded here is named and left out."""
    with mmedge.open_bundle(bundle) as opened:
        variants = dict(opened.manifest.variants)
    rows = []
    for name, variant in variants.items():
        for engine in AUTO:
            if not accepts(variant, engine):
                continue
            try:
                model = mmedge.load(bundle, precision=name, engine=engine, threads=threads, threshold=0.0)
            except EngineError as error:
                print(f"{name} on {engine}: left out, {error}", file=sys.stderr)
                continue
            rows.append(Row(name, engine, variant.verified, stack.enter_context(model), {}, []))
    return rows


def take_turns(rows: list[Row], rounds: int) -> None:
    """Interleaved rounds, of which the first one is not counted."""
    camera = Tabletop(seed=29)
    frames = [camera.frame(25 * index)[0] for index in range(TURN)]
    for row in rows:
        row.model.set_text(PROMPTS)
    for index in range(rounds + 1):
        for row in rows:
            # The threads of the row before come to rest first.
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            for frame in frames:
                row.model(frame)
            if index:
                row.frame_s.append((time.perf_counter() - began) / TURN)


def to_json(row: Row, base: Row) -> dict[str, Any]:
    return {
        "variant": row.variant,
        "engine": row.engine,
        "verified": row.verified,
        **{name: round(value, 4) for name, value in row.figures.items()},
        "F1_drop": round(base.figures["F1"] - row.figures["F1"], 4),
        "IoU_drop": round(base.figures["IoU"] - row.figures["IoU"], 4),
        "frame_ms": milliseconds(row.frame_s),
        "faster": ratios(base.frame_s, row.frame_s),
    }


def lines(report: list[dict[str, Any]]) -> list[list[object]]:
    return [
        [
            row["variant"],
            row["engine"],
            f"{row['F1']:.3f}",
            f"{row['IoU']:.3f}",
            f"{row['frame_ms']:.2f}",
            f"{row['faster']['median']:.2f}",
            f"{row['faster']['min']:.2f} to {row['faster']['max']:.2f}",
            "yes" if row["verified"] else "no",
        ]
        for row in report
    ]


def judge(report: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The int8 variants that are within their limits may lose 0.01 of a figure."""
    return [
        verdict(f"{row['variant']} on {row['engine']}, loss of {figure}", row[f"{figure}_drop"], DROP, at_most=True)
        for row in report
        if row["variant"].startswith("int8") and row["verified"]
        for figure in ("F1", "IoU")
    ]


if __name__ == "__main__":
    main()
