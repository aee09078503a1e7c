"""``make model``: train the built-in model, export it, evaluate the exported bundle, and put it into the package.

python -m mmedge_export.training.make_model [--work out/model] [--out mmedge/data/tabletop.mmedge] [--keep-training]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mmedge
import mmedge_export as mx
from mmedge.tabletop import Tabletop
from mmedge_export.options import Metric
from mmedge_export.training import tabletop
from mmedge_export.training.checkpoint import load_model
from mmedge_export.training.data import MEAN, STD
from mmedge_export.training.evaluation import Floats, Predict, evaluate
from mmedge_export.zoo.grounding import GroundingModel

LIMIT_BYTES = 6_000_000
CARD_BYTES = 20_000
VARIANTS_BYTES = 1_000_000
SCENES = 500
SEARCH_SCENES = 100
"""Scenes on which the precision search measures each variant on each engine."""

_SAMPLE_PROMPTS = (
    ("the red cube", "a blue ball left of the cone", "any cylinder", "the green thing", "a giraffe"),
    ("a yellow ring behind the purple ball", "the white cube", "a pyramid"),
    ("the black ball",),
)

_NOTES = """\
The built-in model of mmedge: where on a robot's table is what each prompt names? A small deep cross-attention
grounding model (image tokens attend to the tokens of each prompt), trained from random weights on the procedural
`tabletop` camera alone. Prompts are sentences of a small grammar: a colour, a shape, both, or either with a relation
to another object ("a blue ball left of the cone").

**Limits.** It has seen nothing but that synthetic camera. On real pictures it shows that everything works, and nothing
more: do not let anything move by its answers there. The held-out pairs never occur in training, alone or in prompts;
while the recipe was chosen, scores on a few dozen held-out scenes of other seeds were looked at.

**Figures.** `main` are all prompts about a colour-shape pair, alone or in a relation, whose answer is clear;
`main_strict` adds those near the limit of visibility or of a relation. `unknown` are sentences about things that do not
exist on the table."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train (unless told to keep the training), export, evaluate, publish."""
    parser = argparse.ArgumentParser(prog="python -m mmedge_export.training.make_model", description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/model"), help="folder of the training run")
    parser.add_argument("--out", type=Path, default=Path("mmedge/data/tabletop.mmedge"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-training", action="store_true", help="take the model that --work already holds")
    parser.add_argument("--scenes", type=int, default=SCENES, help="scenes of each evaluation")
    options = parser.parse_args(arguments)
    if not options.keep_training:
        tabletop.main(["--out", str(options.work), "--seed", str(options.seed)])
    make(options.work, options.out, options.scenes)


def make(work: Path, out: Path, scenes: int = SCENES) -> Path:
    """Export the trained model of `work` to `out`, with the figures that the exported bundle itself reaches.

    Args:
        work: Folder of a training run: model.safetensors, config.json, tokenizer.json, metrics.json.
        out: The bundle.
        scenes: Number of scenes of each of the two evaluations.

    Raises:
        ExportError: The export failed, or the bundle is larger than 6 MB.
    """
    model = load_model(work)
    with tempfile.TemporaryDirectory() as temporary:
        draft = export_model(model, work / "tokenizer.json", Path(temporary) / "tabletop.mmedge", {}, search=False)
        size = draft.stat().st_size + CARD_BYTES + VARIANTS_BYTES
        if size > LIMIT_BYTES:
            raise mmedge.ExportError(f"the bundle would have {size} bytes; {LIMIT_BYTES} may ship in the package")
        figures = measure(draft, scenes)
    training = json.loads((work / "metrics.json").read_text(encoding="utf-8"))
    accuracy = card_figures(figures, training, scenes)
    bundle = export_model(model, work / "tokenizer.json", out, accuracy, search=True)
    print(f"{out}: {bundle.stat().st_size / 1e6:.2f} MB")
    for name, value in accuracy.items():
        print(f"  {name}: {value}")
    return bundle


def export_model(
    model: GroundingModel, tokenizer: Path, out: Path, accuracy: Mapping[str, str], *, search: bool
) -> Path:
    """Export the torch model as a bundle whose card holds `accuracy`; `search` adds the variants that are worth it."""
    config = model.config
    inputs: dict[str, mx.Image | mx.Text] = {
        "image": mx.Image(
            size=(config.height, config.width),
            resize="stretch",
            crop="none",
            interpolation="bilinear",
            mean=(MEAN,) * 3,
            std=(STD,) * 3,
        ),
        "text": mx.Text(tokenizer, max_length=config.max_tokens, vocab_size=config.vocabulary),
    }
    # Small frames: the goldens ship in the package too.
    camera = Tabletop(seed=11, size=(320, 240))
    samples = [mx.Sample(camera.frame(50 * i)[0], prompts) for i, prompts in enumerate(_SAMPLE_PROMPTS)]
    options = mx.Options(
        name="tabletop",
        license="Apache-2.0",
        samples=samples,
        metric=task_metric(SEARCH_SCENES),
        accuracy=accuracy or None,
        notes=_NOTES,
        progress=False,
    )
    task = mx.Ground("scores", "boxes", threshold=0.5)
    precision = "auto" if search else "fp32"
    report = mx.export(
        model, inputs=inputs, task=task, out=out, outputs=("scores", "boxes"), precision=precision, options=options
    )
    return report.path


def task_metric(scenes: int) -> Metric:
    """Presence F1 and mean IoU on held-out scenes, for the precision search.

    Args:
        scenes: Number of scenes for each variant.
    """

    def metric(bundle: Path, precision: str, engine: str) -> dict[str, float]:
        with mmedge.load(bundle, threshold=0.0, precision=precision, engine=engine) as model:
            found = evaluate(bundle_predictor(model), seed=1000, scenes=scenes)["main"]
        return {"F1": found["presence_f1"], "IoU": found["mean_iou"]}

    return metric


def measure(bundle: Path, scenes: int) -> dict[str, dict[str, dict[str, float]]]:
    """Evaluate the fp32 bundle, as the device runs it, on scenes with held-out pairs and on scenes as trained."""
    with mmedge.load(bundle, threshold=0.0, engine="onnxruntime", precision="fp32") as model:
        predict = bundle_predictor(model)
        return {
            "held_out": evaluate(predict, seed=1000, scenes=scenes),
            "in_distribution": evaluate(predict, seed=2000, scenes=scenes, held_out=False),
        }


def bundle_predictor(model: mmedge.Model) -> Predict:
    """`evaluate`'s predict function for a loaded grounding bundle whose threshold is 0: the best box of each prompt."""

    def predict(frame: np.ndarray[Any, np.dtype[np.uint8]], prompts: Sequence[str]) -> tuple[Floats, Floats]:
        model.set_text(list(prompts))
        result = model(frame)
        if not isinstance(result, mmedge.Grounding):
            raise TypeError(f"expected a grounding model, got {type(result).__name__}")
        scores, boxes = np.zeros((len(prompts), 1)), np.zeros((len(prompts), 1, 4))
        # Best first, so the first detection of a prompt is its best.
        for index in reversed(range(len(result.scores))):
            prompt = int(result.prompts[index])
            scores[prompt, 0], boxes[prompt, 0] = result.scores[index], result.boxes[index]
        return scores, boxes

    return predict


def card_figures(
    figures: Mapping[str, Mapping[str, Mapping[str, float]]], training: Mapping[str, Any], scenes: int
) -> dict[str, str]:
    """The figures of the model card, from the evaluations of the bundle and the record of the training."""
    table: dict[str, str] = {}
    for split, title in (
        ("held_out", "held-out colour-shape pairs"),
        ("in_distribution", "pairs as trained, new scenes"),
    ):
        for name, group in figures[split].items():
            # F1 says nothing of prompts that are all absent or all present.
            key, what = ("presence_f1", "presence F1")
            if name.endswith("absent") or name == "unknown":
                key, what = ("false_alarm_rate", "false alarms")
            elif name.endswith("present"):
                key, what = ("recall", "recall")
            table[f"{title}: {name}, {what} ({group['prompts']:.0f} prompts)"] = f"{group[key]:.3f}"
        main_group = figures[split]["main"]
        table[f"{title}: mean IoU over all prompts rightly found present"] = f"{main_group['mean_iou']:.3f}"
        table[f"{title}: mean IoU over correct boxes (IoU >= 0.5)"] = f"{main_group['mean_iou_of_correct']:.3f}"
        table[f"{title}: share of correct boxes"] = f"{main_group['box_accuracy']:.3f}"
    table["scenes of each evaluation"] = str(scenes)
    table["parameters"] = f"{training['parameters']:,}"
    table["training steps, seed"] = f"{training['steps_done']}, {training['recipe']['seed']}"
    table["training time on 2 CPU cores"] = f"{training['training_seconds'] / 60:.0f} min"
    return table


if __name__ == "__main__":
    main()
