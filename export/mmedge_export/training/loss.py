"""Losses of the grounding model: a focal heat map per prompt, its presence, boxes, and colour and shape per cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmedge.tabletop import SHAPES
from mmedge_export.training.pool import COLOR_NAMES
from mmedge_export.zoo.grounding import GroundingConfig, GroundingModel

SEEN_ENOUGH = 0.3
NEAR = 1.0
NEXT_TO = 0.02
WEIGHTS = {"heat": 1.0, "presence": 0.5, "box": 2.0, "color": 0.3, "shape": 0.3, "mentions": 0.5, "sides": 0.5}


@dataclass(frozen=True)
class Batch:
    """B scenes with N prompts of L tokens each and 8 object slots."""

    pixel_values: Tensor  # [B, 3, H, W] float32
    input_ids: Tensor  # [B, N, L] int64
    attention_mask: Tensor  # [B, N, L] int64
    hit: Tensor  # [B, N, 8] bool
    open: Tensor  # [B, N, 8] bool
    mentions: Tensor  # [B, N, 8, 2] bool: fits the prompt's target phrase, its anchor phrase
    base: Tensor  # [B, 8, 2] float32, where the object stands, as shares of the picture
    box: Tensor  # [B, 8, 4] float32, xyxy as shares of the picture
    visible: Tensor  # [B, 8] float32; 0 for an empty slot
    color: Tensor  # [B, 8] int64
    shape: Tensor  # [B, 8] int64


class Attributes(nn.Module):
    """Heads that are trained along and dropped afterwards.

    Colour and shape, read off single image tokens, make the tower keep the two apart, so that pairs never seen together
    can still be told. Mentions, read after the first block, make it mark what each phrase of the prompt could mean;
    sides, read once the last block has looked around, tell whether an anchor stands right, left, below or above. Side
    and relation word decide only together: without a teacher of its own, neither is ever learned.
    """

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        self.color = nn.Linear(config.dim, len(COLOR_NAMES) + 1)
        self.shape = nn.Linear(config.dim, len(SHAPES))
        self.mentions = nn.Linear(config.dim, 2)
        nn.init.constant_(self.mentions.bias, -4.0)
        self.sides = nn.Linear(config.dim, 4)


def objective(model: GroundingModel, attributes: Attributes, batch: Batch, autocast: bool) -> dict[str, Tensor]:
    """Loss terms by name; "total" is what to minimise."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        tokens, boxes = model.image(batch.pixel_values)
        states = model.ground(tokens[:, None], batch.input_ids, batch.attention_mask)
        logits, mentions = model.read(states[-1][1]).float(), attributes.mentions(states[0][1]).float()
        sides = attributes.sides(states[-1][0]).float()
        color, shape = attributes.color(tokens).float(), attributes.shape(tokens).float()
    pull, owner = _assign(model, batch)
    terms = {
        "heat": heat_loss(logits, pull, batch.hit, batch.open),
        "mentions": heat_loss(mentions[..., 0], pull, batch.mentions[..., 0], torch.zeros_like(batch.open))
        + heat_loss(mentions[..., 1], pull, batch.mentions[..., 1], torch.zeros_like(batch.open)),
        "sides": sides_loss(sides, batch, owner),
        "presence": presence_loss(logits, batch),
        "box": box_loss(boxes.float(), batch, owner),
        "color": functional.cross_entropy(color[owner[0], owner[1]], batch.color[owner[0], owner[2]]),
        "shape": functional.cross_entropy(shape[owner[0], owner[1]], batch.shape[owner[0], owner[2]]),
    }
    terms["total"] = sum((weight * terms[name] for name, weight in WEIGHTS.items()), torch.zeros(()))
    return terms


def _assign(model: GroundingModel, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Closeness [B, 8, M] of each cell to each object's centre (1 at its own cell), and the cells that stand for an
    object as indices (scene, cell, object)."""
    grid, centers = model.image.grid, model.image.centers
    low, high = batch.box[..., :2] * grid, batch.box[..., 2:] * grid
    middle = (low + high) / 2
    delta = centers - middle[:, :, None]
    sigma = 0.22 * (high - low)[:, :, None].clamp(min=2.0)
    pull = torch.exp(-((delta / sigma) ** 2).sum(dim=-1) / 2)
    own = (middle[:, :, None].floor() + 0.5 == centers).all(dim=-1)
    pull = torch.where(own, torch.ones_like(pull), pull.clamp(max=0.98)) * (batch.visible > 0)[..., None]
    reach = ((high - low) / 4).clamp(min=NEAR)[:, :, None]
    near = (delta.abs() <= reach).all(dim=-1) & (batch.visible >= SEEN_ENOUGH)[..., None]
    closest = torch.where(near, pull, torch.zeros_like(pull)).argmax(dim=1)
    scene, cell = near.any(dim=1).nonzero(as_tuple=True)
    return pull, (scene, cell, closest[scene, cell])


def heat_loss(logits: Tensor, pull: Tensor, hits: Tensor, undecided: Tensor) -> Tensor:
    """The penalty-reduced focal loss of "Objects as Points"; cells of undecided objects do not count."""
    target = (pull[:, None] * hits[..., None]).amax(dim=2)
    doubt = (pull[:, None] * undecided[..., None]).amax(dim=2) > 0.1
    chance = torch.sigmoid(logits)
    hit = target == 1
    gain = hit * (1 - chance) ** 2 * functional.softplus(-logits)
    cost = ~hit * (1 - target) ** 4 * chance**2 * functional.softplus(logits)
    loss = torch.where(doubt & ~hit, torch.zeros_like(gain), gain + cost)
    return loss.sum() / (hit.sum() + 0.5 * hit.shape[0] * hit.shape[1])


def sides_loss(logits: Tensor, batch: Batch, owner: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """On which sides of each object an anchor of the prompt stands, for prompts with an anchor in view."""
    offset = batch.base[:, None, :, :] - batch.base[:, :, None, :]
    x, y = offset[..., 0], offset[..., 1]
    beside = torch.stack([x > NEXT_TO, x < -NEXT_TO, y > NEXT_TO, y < -NEXT_TO], dim=-1).float()
    anchor = batch.mentions[..., 1].float()
    truth = torch.einsum("bijs,bnj->bnis", beside, anchor).clamp(max=1)
    scene, cell, thing = owner
    wrong = functional.binary_cross_entropy_with_logits(
        logits[scene, :, cell], truth[scene, :, thing], reduction="none"
    )
    asked = anchor.any(dim=-1)[scene].float()
    return (wrong.mean(dim=-1) * asked).sum() / asked.sum().clamp(min=1)


def presence_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Is the best score right about there being such an object at all?"""
    present = batch.hit.any(dim=-1)
    decided = present | ~batch.open.any(dim=-1)
    loss = functional.binary_cross_entropy_with_logits(logits.amax(dim=-1), present.float(), reduction="none")
    return (loss * decided).sum() / decided.sum().clamp(min=1)


def box_loss(boxes: Tensor, batch: Batch, owner: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Generalised IoU (Rezatofighi et al., 2019) plus the edges' distance relative to the object's size."""
    scene, cell, thing = owner
    guess, truth = boxes[scene, cell], batch.box[scene, thing]
    size = (truth[:, 2:] - truth[:, :2]).clamp(min=1e-3)
    area = size.prod(dim=1) + (guess[:, 2:] - guess[:, :2]).clamp(min=0).prod(dim=1)
    low, high = torch.minimum(guess[:, :2], truth[:, :2]), torch.maximum(guess[:, 2:], truth[:, 2:])
    inner = torch.minimum(guess[:, 2:], truth[:, 2:]) - torch.maximum(guess[:, :2], truth[:, :2])
    shared = inner.clamp(min=0).prod(dim=1)
    union, outer = area - shared, (high - low).prod(dim=1)
    giou = shared / union - (outer - union) / outer
    edges = ((guess - truth).abs() / size.repeat(1, 2)).mean(dim=1)
    return ((1 - giou) + edges).mean()
