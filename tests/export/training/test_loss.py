"""Each loss is near nothing for the right answer and not for a wrong one."""

from __future__ import annotations

import torch

from mmedge_export.training.loss import Batch, box_loss, heat_loss, presence_loss, sides_loss

CELLS = 6
OWNER = (torch.tensor([0, 0]), torch.tensor([1, 4]), torch.tensor([0, 1]))
"""Object 0 owns cell 1, object 1 owns cell 4."""


def batch() -> Batch:
    """One scene, two prompts, two objects: 0 at the left and low, 1 at the right and high.

    Prompt 0 names object 0, with object 1 as its anchor; prompt 1 names nothing and has no anchor.
    """
    slots = torch.zeros(1, 2, 8, dtype=torch.bool)
    hit = slots.clone()
    hit[0, 0, 0] = True
    mentions = torch.zeros(1, 2, 8, 2, dtype=torch.bool)
    mentions[0, 0, 0, 0] = mentions[0, 0, 1, 1] = True
    box, base = torch.zeros(1, 8, 4), torch.zeros(1, 8, 2)
    box[0, 0], box[0, 1] = torch.tensor([0.1, 0.6, 0.2, 0.8]), torch.tensor([0.7, 0.1, 0.9, 0.2])
    base[0, 0], base[0, 1] = torch.tensor([0.15, 0.8]), torch.tensor([0.8, 0.2])
    visible = torch.zeros(1, 8)
    visible[0, :2] = 1.0
    ids, kinds = torch.zeros(1, 2, 3, dtype=torch.int64), torch.zeros(1, 8, dtype=torch.int64)
    return Batch(torch.zeros(1, 3, 8, 8), ids, ids, hit, slots, mentions, base, box, visible, kinds, kinds)


def pull() -> torch.Tensor:
    closeness = torch.zeros(1, 8, CELLS)
    closeness[0, 0, 1] = closeness[0, 1, 4] = 1.0
    return closeness


def test_heat() -> None:
    right = torch.full((1, 2, CELLS), -12.0)
    right[0, 0, 1] = 12.0
    wrong = -right
    example = batch()
    assert heat_loss(right, pull(), example.hit, example.open) < 1e-3
    assert heat_loss(wrong, pull(), example.hit, example.open) > 1


def test_undecided_cells_do_not_count() -> None:
    logits = torch.full((1, 2, CELLS), -12.0)
    logits[0, 0, 1] = logits[0, 1, 4] = 12.0
    example = batch()
    undecided = example.open.clone()
    assert heat_loss(logits, pull(), example.hit, undecided) > 1
    undecided[0, 1, 1] = True
    assert heat_loss(logits, pull(), example.hit, undecided) < 1e-3


def test_presence() -> None:
    right = torch.full((1, 2, CELLS), -12.0)
    right[0, 0, 3] = 12.0
    assert presence_loss(right, batch()) < 1e-3
    assert presence_loss(right.flip(1), batch()) > 1


def test_box() -> None:
    boxes = torch.zeros(1, CELLS, 4)
    boxes[0, 1], boxes[0, 4] = batch().box[0, 0], batch().box[0, 1]
    assert box_loss(boxes, batch(), OWNER) < 1e-5
    assert box_loss(boxes.flip(1), batch(), OWNER) > 0.5


def test_sides() -> None:
    """Seen from object 0, the anchor (object 1) is to the right and above; seen from the anchor, it is nowhere."""
    logits = torch.full((1, 2, CELLS, 4), -12.0)
    logits[0, 0, 1, 0] = logits[0, 0, 1, 3] = 12.0
    assert sides_loss(logits, batch(), OWNER) < 1e-3
    assert sides_loss(-logits, batch(), OWNER) > 1


def test_sides_need_an_anchor() -> None:
    logits = torch.full((1, 2, CELLS, 4), -12.0)
    logits[0, 0, 1, 0] = logits[0, 0, 1, 3] = 12.0
    logits[0, 1] = 12.0
    assert sides_loss(logits, batch(), OWNER) < 1e-3
