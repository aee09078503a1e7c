"""Training learns, repeats itself, and goes on where it stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mmedge_export.training.checkpoint import load_model, load_progress, save_model, save_progress
from mmedge_export.training.data import Batches
from mmedge_export.training.evaluation import Case, Tally, evaluate, overlap, scene_cases
from mmedge_export.training.pool import build_pool
from mmedge_export.training.tabletop import Recipe, Trainer, predictor
from mmedge_export.training.tokenizer import build_tokenizer

RECIPE = Recipe(scenes=8, steps=8, batch=3, prompts=3, bfloat16=False)


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Batches:
    pool = build_pool(tmp_path_factory.mktemp("pool"), RECIPE.scenes, 0, (192, 144), workers=1)
    return Batches(pool, build_tokenizer(), RECIPE.seed, RECIPE.batch, RECIPE.prompts)


class OneBatch(Batches):
    """Always the first batch."""

    def draw(self, step: int):  # type: ignore[no-untyped-def]
        return super().draw(0)


def test_batches_depend_on_the_step_alone(batches: Batches) -> None:
    for field in dataclasses.fields(first := batches.draw(5)):
        again = getattr(batches.draw(5), field.name)
        assert torch.equal(getattr(first, field.name), again)
    assert not torch.equal(first.pixel_values, batches.draw(6).pixel_values)


def test_boxes_of_a_batch_are_ordered(batches: Batches) -> None:
    for step in range(4):
        batch = batches.draw(step)
        seen = batch.visible > 0
        assert bool((batch.box[seen][:, 2:] > batch.box[seen][:, :2]).all())
        assert not bool(batch.hit[~seen[:, None].expand_as(batch.hit)].any())


def test_losses_fall_on_a_fixed_batch(batches: Batches) -> None:
    fixed = OneBatch(batches.pool, batches.tokenizer, 0, RECIPE.batch, RECIPE.prompts)
    trainer = Trainer(dataclasses.replace(RECIPE, peak_rate=3e-3), fixed)
    losses = [trainer.advance() for _ in range(RECIPE.steps)]
    for name in ("total", "heat", "box", "color"):
        assert losses[-1][name] < 0.85 * losses[0][name], name


def test_resuming_equals_going_on(batches: Batches, tmp_path: Path) -> None:
    straight = Trainer(RECIPE, batches)
    for _ in range(2):
        straight.advance()
    save_progress(tmp_path / "p.safetensors", straight.step, 7.5, straight.modules, straight.optimizer)
    resumed = Trainer(RECIPE, batches)
    resumed.step, seconds = load_progress(tmp_path / "p.safetensors", resumed.modules, resumed.optimizer)
    expected, got = straight.advance(), resumed.advance()
    assert (resumed.step, seconds) == (3, 7.5)
    assert got == pytest.approx(expected, rel=1e-3)


def test_a_saved_model_loads_and_predicts(batches: Batches, tmp_path: Path) -> None:
    trainer = Trainer(RECIPE, batches)
    save_model(tmp_path, trainer.average)
    frame, cases = scene_cases(3, 0, held_out=True)
    texts = [case.text for case in cases]
    scores, boxes = predictor(load_model(tmp_path))(frame, texts)
    expected, _ = predictor(trainer.average)(frame, texts)
    assert scores.shape == (len(texts), 4)
    assert boxes.shape == (len(texts), 4, 4)
    assert np.allclose(scores, expected, atol=1e-5)


def test_evaluation_counts() -> None:
    box = np.array([0.0, 0.0, 10.0, 10.0])
    there, absent = Case("pair", "a", box[None], True), Case("pair", "b", np.zeros((0, 4)), True)
    tally = Tally()
    for case, score in ((there, 0.9), (there, 0.1), (absent, 0.9), (absent, 0.2)):
        tally.add(case, score, box + np.array([0, 0, 0, 10]), 0.5)
    report = tally.report()
    assert report["presence_f1"] == report["precision"] == report["recall"] == report["false_alarm_rate"] == 0.5
    assert report["mean_iou"] == report["mean_iou_of_correct"] == 0.5


def test_overlap_of_apart_and_equal_boxes() -> None:
    boxes = np.array([[0.0, 0, 4, 4], [10, 10, 12, 12], [2, 0, 6, 4]])
    assert overlap(boxes, np.array([0.0, 0, 4, 4])) == pytest.approx([1.0, 0.0, 1 / 3])


def test_evaluation_asks_about_held_out_pairs() -> None:
    def knows_nothing(frame: np.ndarray, prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(prompts), 4)), np.zeros((len(prompts), 4, 4))

    report = evaluate(knows_nothing, seed=1, scenes=6)
    assert {"main", "main_strict", "pair_present", "pair_absent", "unknown"} <= set(report)
    assert report["main"]["presence_f1"] == 0.0
    assert report["main"]["recall"] == 0.0
    assert report["main"]["false_alarm_rate"] == 0.0
