"""Deep cross-attention grounding, small: where in the picture is what each prompt names?

Three parts, by what they depend on. The image tower (convolutions, stride 8, then tokens; also the boxes) and the text
tower run on one modality each; only the grounding blocks, where image tokens attend to the prompt's tokens, see both.
Heat map, boxes per cell and peak picking by max-pooling follow Zhou et al., "Objects as Points" (2019); pooled keys in
the spatial attention follow Wang et al., "Pyramid Vision Transformer" (2021).

Letters: B images, N prompts, L tokens of a prompt, M = rows * columns cells, D width of a token, H heads, K detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

STRIDE = 8
POOL = 3
BOX_UNIT = 2.0


@dataclass(frozen=True)
class GroundingConfig:
    """Sizes of the model. `width` and `height` are the input's pixels and must be multiples of 24."""

    vocabulary: int
    width: int = 192
    height: int = 144
    stem: int = 48
    tower: int = 96
    tower_blocks: int = 2
    dim: int = 64
    heads: int = 4
    joint_blocks: int = 2
    mlp_ratio: int = 2
    text_layers: int = 2
    max_tokens: int = 24
    detections: int = 4

    @property
    def rows(self) -> int:
        return self.height // STRIDE

    @property
    def columns(self) -> int:
        return self.width // STRIDE


def _conv(inputs: int, outputs: int, stride: int = 1, activate: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU()) if activate else nn.Sequential(*layers)


class ResidualConv(nn.Module):
    """Two 3x3 convolutions around a shortcut, [B, C, h, w] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels), _conv(channels, channels, activate=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class Attention(nn.Module):
    """Multi-head softmax attention with linear projections; leading dimensions broadcast.

    `x` [..., M, D] asks `context` [..., L, D]; `bias` broadcasts to the scores [..., H, M, L].
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value, self.output = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = torch.unflatten(x, -1, (self.heads, -1))
        return heads.transpose(-2, -3)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (
            self._split(part(source)) for part, source in ((self.query, x), (self.key, context), (self.value, context))
        )
        scores = torch.matmul(query * self.scale, key.transpose(-1, -2)) + bias
        mixed = torch.matmul(torch.softmax(scores, dim=-1), value)
        merged: Tensor = self.output(mixed.transpose(-2, -3).flatten(-2))
        return merged


def _mlp(dim: int, ratio: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, ratio * dim), nn.ReLU(), nn.Linear(ratio * dim, dim))


class SpatialAttention(nn.Module):
    """Every cell looks over the whole picture, summed up in pools of 3x3 cells, with a learned bias by place.

    The four first heads begin by looking right, left, up and down: the directions of "left of", "right of",
    "in front of" and "behind".
    """

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        self.rows, self.columns = config.rows, config.columns
        self.norm = nn.LayerNorm(config.dim)
        self.attention = Attention(config.dim, config.heads)
        down = _side(self.rows)
        right = _side(self.columns)
        vertical, horizontal = torch.zeros(config.heads, *down.shape), torch.zeros(config.heads, *right.shape)
        for head, (table, side) in enumerate(
            ((horizontal, right), (horizontal, -right), (vertical, -down), (vertical, down))
        ):
            if head < config.heads:
                table[head] = 3.0 * (side - 1.0)
        self.vertical, self.horizontal = nn.Parameter(vertical), nn.Parameter(horizontal)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        grid = torch.unflatten(normed, -2, (self.rows // POOL, POOL, self.columns // POOL, POOL))
        pooled = grid.amax(dim=(-4, -2)).flatten(-3, -2)
        bias = self.vertical[:, :, None, :, None] + self.horizontal[:, None, :, None, :]
        seen: Tensor = self.attention(normed, pooled, bias.flatten(3, 4).flatten(1, 2))
        return x + seen


def _side(cells: int) -> Tensor:
    """[cells, pools]: 1 where the pool lies after the cell, -1 where before, by distance in between."""
    pools = torch.arange(cells // POOL) * POOL + (POOL - 1) / 2
    return torch.clamp((pools[None, :] - torch.arange(cells)[:, None]) / 2.0, -1.0, 1.0)


class GroundingBlock(nn.Module):
    """Pre-norm: look around, ask the prompt, think. x [..., M, D], text [..., L, D], mask [..., 1, 1, L].

    Returns the tokens after looking around and at the end, both [..., M, D].
    """

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        self.around = SpatialAttention(config)
        self.norm = nn.LayerNorm(config.dim)
        self.prompt = Attention(config.dim, config.heads)
        self.think = _mlp(config.dim, config.mlp_ratio)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        looked: Tensor = self.around(x)
        asked = looked + self.prompt(self.norm(looked), text, mask)
        return looked, asked + self.think(asked)


class TextLayer(nn.Module):
    """Pre-norm transformer layer over a prompt's tokens [..., L, D]."""

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.attention = Attention(config.dim, config.heads)
        self.think = _mlp(config.dim, 2 * config.mlp_ratio)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.norm(x)
        x = x + self.attention(normed, normed, mask)
        thought: Tensor = self.think(x)
        return x + thought


class TextTower(nn.Module):
    """Token ids and mask [..., L] int64 -> prompt tokens [..., L, D] and additive mask [..., 1, 1, L]."""

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.dim)
        self.position = nn.Parameter(0.02 * torch.randn(config.max_tokens, config.dim))
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.text_layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        mask = ((1 - attention_mask) * -10000.0).to(self.position.dtype)[..., None, None, :]
        x = self.embedding(input_ids) + self.position[: input_ids.shape[-1]]
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x), mask


class ImageTower(nn.Module):
    """Picture [B, 3, height, width] -> tokens [B, M, D] and boxes [B, M, 4] (xyxy as shares of the picture)."""

    centers: Tensor
    grid: Tensor

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        channels = config.tower
        self.stem = nn.Sequential(_conv(3, config.stem // 2, 2), _conv(config.stem // 2, config.stem, 2))
        self.early = ResidualConv(config.stem)
        self.down = _conv(config.stem, channels, 2)
        self.late = nn.Sequential(*(ResidualConv(channels) for _ in range(config.tower_blocks)))
        self.token = nn.Linear(channels, config.dim)
        self.place = nn.Parameter(0.02 * torch.randn(config.rows * config.columns, config.dim))
        self.box = nn.Sequential(_conv(channels, channels // 2), nn.Conv2d(channels // 2, 4, 1))
        rows, columns = torch.arange(config.rows) + 0.5, torch.arange(config.columns) + 0.5
        centers = torch.cartesian_prod(rows, columns).flip(-1)
        self.register_buffer("centers", centers, persistent=False)
        self.register_buffer("grid", torch.tensor([config.columns, config.rows], dtype=torch.float32), persistent=False)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        features = self.late(self.down(self.early(self.stem(pixel_values))))
        tokens = self.token(features.flatten(2).transpose(1, 2)) + self.place
        reach = nn.functional.softplus(self.box(features).flatten(2).transpose(1, 2).float()) * BOX_UNIT
        low, high = (self.centers - reach[..., :2]) / self.grid, (self.centers + reach[..., 2:]) / self.grid
        return tokens, torch.cat([low, high], dim=-1)


class GroundingModel(nn.Module):
    """`forward` is the model as deployed; `dense` is what training looks at."""

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        if config.width % (STRIDE * POOL) or config.height % (STRIDE * POOL):
            raise ValueError(f"width and height must be multiples of 24, got {config.width} x {config.height}")
        self.config = config
        self.image = ImageTower(config)
        self.text = TextTower(config)
        self.blocks = nn.ModuleList(GroundingBlock(config) for _ in range(config.joint_blocks))
        self.norm = nn.LayerNorm(config.dim)
        self.score = nn.Linear(config.dim, 1)
        nn.init.constant_(self.score.bias, -4.0)

    def dense(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logit of every cell: tokens [..., M, D] and prompts [..., L] -> [..., M]; leading dimensions broadcast."""
        return self.read(self.ground(tokens, input_ids, attention_mask)[-1][1])

    def ground(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The tokens [..., M, D] within each block (after looking around) and after it."""
        text, mask = self.text(input_ids, attention_mask)
        states: list[tuple[Tensor, Tensor]] = []
        for block in self.blocks:
            states.append(block(tokens, text, mask))
            tokens = states[-1][1]
        return states

    def read(self, tokens: Tensor) -> Tensor:
        """Tokens after the last block [..., M, D] -> logits [..., M]."""
        logits: Tensor = self.score(self.norm(tokens)).squeeze(-1)
        return logits

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """One picture and N prompts.

        Args:
            pixel_values: [1, 3, height, width] float32, RGB, normalised.
            input_ids, attention_mask: [N, L] int64; the mask is 1 on words and 0 on padding.

        Returns:
            scores [N, K] float32 in 0..1, best first, and boxes [N, K, 4] float32, cx, cy, w, h as shares of the input.
        """
        config = self.config
        tokens, boxes = self.image(pixel_values)
        heat = torch.sigmoid(self.dense(tokens, input_ids, attention_mask))
        heat = torch.unflatten(heat, -1, (config.rows, config.columns)).unsqueeze(1)
        peak = nn.functional.max_pool2d(heat, 3, 1, 1)
        kept = torch.where(heat >= peak, heat, torch.zeros_like(heat)).flatten(1)
        scores, cells = torch.topk(kept, config.detections, dim=-1)
        low, high = boxes[0].chunk(2, dim=-1)
        centered = torch.cat([(low + high) / 2, high - low], dim=-1)
        return scores, nn.functional.embedding(cells, centered)
