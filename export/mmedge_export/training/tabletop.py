"""Trains the built-in tabletop model from nothing: `python -m mmedge_export.training.tabletop --out DIR`.

Renders its own scenes, needs no data and no network, about 40 minutes on two cores with bfloat16.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmedge_export.training.checkpoint import load_progress, save_model, save_progress, write_json
from mmedge_export.training.data import MEAN, STD, Batches
from mmedge_export.training.evaluation import Predict, evaluate
from mmedge_export.training.loss import Attributes, objective
from mmedge_export.training.pool import build_pool, shrink
from mmedge_export.training.tokenizer import build_tokenizer
from mmedge_export.zoo.grounding import GroundingConfig, GroundingModel


@dataclass(frozen=True)
class Recipe:
    """What a run does; together with the code it fixes the result up to floating-point order."""

    seed: int = 0
    scenes: int = 28_000
    steps: int = 2_400
    batch: int = 32
    prompts: int = 6
    peak_rate: float = 2.5e-3
    weight_decay: float = 0.02
    average: float = 0.998
    threads: int = 2
    bfloat16: bool = True


QUICK = Recipe(scenes=2_000, steps=250)
PROGRESS = "progress.safetensors"


class Trainer:
    """Model, running average, optimizer and the loop over them."""

    def __init__(self, recipe: Recipe, batches: Batches) -> None:
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        self.recipe, self.batches = recipe, batches
        config = GroundingConfig(vocabulary=batches.tokenizer.get_vocab_size())
        self.model = GroundingModel(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.attributes = Attributes(config)
        self.average = copy.deepcopy(self.model).eval()
        self.modules: dict[str, nn.Module] = {
            "model": self.model, "attributes": self.attributes, "average": self.average,
        }  # fmt: skip
        named = [*self.model.named_parameters(), *self.attributes.named_parameters()]
        decayed = [p for name, p in named if p.ndim > 1 and "place" not in name and "position" not in name]
        plain = [p for _, p in named if all(p is not other for other in decayed)]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.peak_rate, fused=True)
        self.step, self.seconds = 0, 0.0

    def rate(self) -> float:
        """Linear warm-up over 4 % of the steps, then a half cosine to nothing."""
        warm = max(round(0.04 * self.recipe.steps), 1)
        if self.step < warm:
            return self.recipe.peak_rate * (self.step + 1) / warm
        share = (self.step - warm) / max(self.recipe.steps - warm, 1)
        return self.recipe.peak_rate * (0.5 + 0.5 * math.cos(math.pi * share))

    def advance(self) -> dict[str, float]:
        """One step; returns the loss terms."""
        start = time.monotonic()
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        batch = self.batches.draw(self.step)
        terms = objective(self.model, self.attributes, batch, self.recipe.bfloat16)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(terms["total"])
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, 2.0)
        self.optimizer.step()
        self._follow()
        self.step += 1
        self.seconds += time.monotonic() - start
        return {name: float(value.detach()) for name, value in terms.items()}

    def save(self, out: Path) -> None:
        """Write the averaged model, and what resuming needs."""
        save_progress(out / PROGRESS, self.step, self.seconds, self.modules, self.optimizer)
        save_model(out, self.average)

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        current = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(current[name], 1 - keep)
            else:
                value.copy_(current[name])


def predictor(model: GroundingModel) -> Predict:
    """`evaluate`'s predict function for a torch model."""
    config = model.config
    tokenizer = build_tokenizer(config.max_tokens)

    @torch.no_grad()
    def predict(frame: NDArray[np.uint8], prompts: Sequence[str]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        small = torch.from_numpy(shrink(frame, (config.width, config.height)).copy())
        pixels = (small.permute(2, 0, 1)[None].float() / 255 - MEAN) / STD
        encoded = tokenizer.encode_batch(list(prompts))
        ids, mask = torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])
        scores, boxes = model(pixels, ids, mask)
        middle, size = boxes[..., :2], boxes[..., 2:]
        corners = torch.cat([middle - size / 2, middle + size / 2], dim=-1).numpy()
        return scores.numpy(), corners * np.tile([frame.shape[1], frame.shape[0]], 2)

    return predict


def train(out: Path, recipe: Recipe, minutes: float | None, resume: bool, workers: int) -> Trainer:
    """Train into `out`; `minutes` ends the run early, `resume` goes on from the last saved step."""
    tokenizer = build_tokenizer()
    config = GroundingConfig(vocabulary=tokenizer.get_vocab_size())
    pool = build_pool(out / "pool", recipe.scenes, recipe.seed, (config.width, config.height), workers)
    trainer = Trainer(recipe, Batches(pool, tokenizer, recipe.seed, recipe.batch, recipe.prompts))
    if resume and (out / PROGRESS).exists():
        progress = load_progress(out / PROGRESS, trainer.modules, trainer.optimizer)
        trainer.step, trainer.seconds = progress
        print(f"resumed at step {trainer.step}", flush=True)
    tokenizer.save(str(out / "tokenizer.json"))
    start, first = time.monotonic(), trainer.step
    mean: dict[str, float] = {}
    while trainer.step < recipe.steps and (minutes is None or time.monotonic() - start < 60 * minutes):
        terms = trainer.advance()
        mean = {name: 0.95 * mean.get(name, value) + 0.05 * value for name, value in terms.items()}
        if trainer.step % 25 == 0 or trainer.step == recipe.steps:
            each = (time.monotonic() - start) / (trainer.step - first)
            losses = " ".join(f"{name} {value:.3f}" for name, value in mean.items())
            left = f"{1000 * each:.0f} ms/step {each * (recipe.steps - trainer.step):.0f} s left"
            print(f"step {trainer.step}/{recipe.steps} {losses} {left}", flush=True)
        if trainer.step % 250 == 0:
            trainer.save(out)
    trainer.save(out)
    return trainer


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: train, evaluate, and leave model, config, tokenizer and metrics in --out."""
    parser = argparse.ArgumentParser(prog="python -m mmedge_export.training.tabletop", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=None, help="end the training after so many minutes")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--workers", type=int, default=2, help="processes that render the scenes")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that all works")
    parser.add_argument("--resume", action="store_true", help="go on from the last saved step in --out")
    options = parser.parse_args(arguments)
    base = QUICK if options.quick else Recipe()
    recipe = Recipe(**{**asdict(base), "seed": options.seed, "steps": options.steps or base.steps})
    options.out.mkdir(parents=True, exist_ok=True)
    trainer = train(options.out, recipe, options.minutes, options.resume, options.workers)
    scenes = 60 if options.quick else 500
    predict = predictor(trainer.average)
    metrics = {
        "recipe": asdict(recipe),
        "steps_done": trainer.step,
        "parameters": sum(p.numel() for p in trainer.average.parameters()),
        "training_seconds": round(trainer.seconds, 1),
        "held_out": evaluate(predict, seed=1000, scenes=scenes),
        "in_distribution": evaluate(predict, seed=2000, scenes=scenes, held_out=False),
    }
    write_json(options.out / "metrics.json", metrics)
    for split in ("held_out", "in_distribution"):
        main_numbers = metrics[split]["main"]
        print(split, {name: round(value, 4) for name, value in main_numbers.items()}, flush=True)


if __name__ == "__main__":
    main()
