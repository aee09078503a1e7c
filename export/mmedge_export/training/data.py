"""Batches for training: scenes of the pool with fresh prompts, mirrored and relit at random.

Batch `step` depends on the seed and on `step` alone, so that a resumed run sees what the first would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mmedge_export.training.loss import Batch
from mmedge_export.training.pool import Pool
from mmedge_export.training.prompts import ask

MEAN, STD = 0.5, 0.25


@dataclass(frozen=True)
class Batches:
    """Draws batches of `size` scenes with `prompts` prompts each."""

    pool: Pool
    tokenizer: Tokenizer
    seed: int
    size: int = 32
    prompts: int = 6

    def draw(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, 1, step])
        chosen = self._indices(step)
        images, rows = self.pool.images[chosen], self.pool.truth[chosen].copy()
        mirrored = rng.random(self.size) < 0.5
        images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        for index in np.flatnonzero(mirrored):
            rows[index] = _mirrored(rows[index])
        questions = [[ask(rng, row) for _ in range(self.prompts)] for row in rows]
        encoded = self.tokenizer.encode_batch([q.text for scene in questions for q in scene])
        shape = (self.size, self.prompts, -1)
        return Batch(
            pixel_values=_light(rng, images),
            input_ids=torch.tensor([e.ids for e in encoded]).view(shape),
            attention_mask=torch.tensor([e.attention_mask for e in encoded]).view(shape),
            hit=torch.from_numpy(np.array([[q.hit for q in scene] for scene in questions])),
            open=torch.from_numpy(np.array([[q.open for q in scene] for scene in questions])),
            mentions=torch.from_numpy(np.array([[q.mentions for q in scene] for scene in questions])),
            base=torch.from_numpy(rows["base"].copy()),
            box=torch.from_numpy(rows["box"].copy()),
            visible=torch.from_numpy(rows["visible"].copy()),
            color=torch.from_numpy(rows["color"].copy()),
            shape=torch.from_numpy(rows["shape"].copy()),
        )

    def _indices(self, step: int) -> NDArray[np.int64]:
        """A slice of a fresh shuffle per epoch."""
        per_epoch = max(len(self.pool.truth) // self.size, 1)
        epoch, at = divmod(step, per_epoch)
        order = np.random.default_rng([self.seed, 2, epoch]).permutation(len(self.pool.truth))
        return np.resize(order, max(len(order), self.size))[at * self.size : (at + 1) * self.size]


def _mirrored(row: NDArray[np.void]) -> NDArray[np.void]:
    """The truth of the picture mirrored left to right; empty slots stay empty."""
    flipped = row.copy()
    used = np.arange(len(row["visible"])) < row["count"]
    flipped["box"][:, 0] = np.where(used, 1 - row["box"][:, 2], 0)
    flipped["box"][:, 2] = np.where(used, 1 - row["box"][:, 0], 0)
    flipped["base"][:, 0] = np.where(used, 1 - row["base"][:, 0], 0)
    return flipped


def _light(rng: np.random.Generator, images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> normalised float32 [B, 3, H, W] with a random exposure, contrast and tint."""
    count = len(images)
    gain = rng.uniform(0.8, 1.2, (count, 1)) * rng.uniform(0.96, 1.04, (count, 3)) / (255 * STD)
    offset = (rng.uniform(-0.05, 0.05, (count, 1)) - MEAN) / STD
    values = torch.from_numpy(np.ascontiguousarray(images)).float()
    values.mul_(torch.from_numpy(gain.astype(np.float32))[:, None, None, :])
    values.add_(torch.from_numpy(offset.astype(np.float32))[:, None, None, :])
    return values.permute(0, 3, 1, 2)
