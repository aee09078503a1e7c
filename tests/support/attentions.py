"""Ways of writing cross-attention down. Each takes x [B, M, D], text [n, l, D] and mask [n, l], and gives [n, M, D]."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

D, H = 24, 3
d = D // H


class Attend(nn.Module):
    """Projections that all of them have. `arguments` make another one like it."""

    def __init__(self, *arguments: Any, bias: bool = True, groups: int = H) -> None:
        super().__init__()
        self.arguments = arguments
        self.q, self.o = nn.Linear(D, D, bias=bias), nn.Linear(D, D, bias=bias)
        self.k, self.v = nn.Linear(D, groups * d, bias=bias), nn.Linear(D, groups * d, bias=bias)

    def split(self, x: Tensor, heads: int = H) -> Tensor:
        return x.unflatten(-1, (heads, d)).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


def additive(mask: Tensor) -> Tensor:
    return (1.0 - mask[:, None, None, :].float()) * -1e4


class Scaled(Attend):
    """torch's own operator, boolean mask."""

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(text)), self.split(self.v(text))
        n = text.shape[0]
        mixed = F.scaled_dot_product_attention(q.expand(n, -1, -1, -1), k, v, mask[:, None, None, :].bool())
        return self.o(self.merge(mixed))


class Unmasked(Attend):
    """torch's own operator, every word asked."""

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(text)), self.split(self.v(text))
        mixed = F.scaled_dot_product_attention(q.expand(text.shape[0], -1, -1, -1), k, v)
        return self.o(self.merge(mixed))


class Plain(Attend):
    """Products and softmax, additive mask; broadcast over the prompts."""

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(text)), self.split(self.v(text))
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(d) + additive(mask), -1)
        return self.o(self.merge(weights @ v))


class Normed(Plain):
    """LayerNorm in front, no mask, no biases."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, bias=False)
        self.norm = nn.LayerNorm(D)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(self.norm(x))), self.split(self.k(text)), self.split(self.v(text))
        return self.o(self.merge(torch.softmax(q @ k.transpose(-1, -2) * d**-0.5, -1) @ v))


class MultiQuery(Attend):
    """One head of keys and values for all heads of queries."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, groups=1)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(text), 1), self.split(self.v(text), 1)
        k, v = k.repeat_interleave(H, 1), v.repeat_interleave(H, 1)
        return self.o(self.merge(torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(d) + additive(mask), -1) @ v))


class FusedKeysValues(Attend):
    """Keys and values out of one projection."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kv = nn.Linear(D, 2 * D)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        k, v = (self.split(part) for part in self.kv(text).chunk(2, -1))
        return self.o(self.merge(torch.softmax(self.split(self.q(x)) @ k.transpose(-1, -2) + additive(mask), -1) @ v))


class Merged(Attend):
    """Batch and heads in one axis, batched products, clamped scores, as older detectors have it."""

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        n = text.shape[0]
        x = x.expand(n, -1, -1)
        q, k, v = (self.split(part).reshape(-1, part.shape[1], d) for part in (self.q(x), self.k(text), self.v(text)))
        scores = torch.clamp(torch.bmm(q, k.transpose(1, 2)), -50.0, 50.0)
        hidden = additive(mask).expand(-1, H, -1, -1).flatten(0, 1)
        mixed = torch.bmm(torch.softmax(scores + hidden, -1), v)
        return self.o(self.merge(mixed.reshape(n, H, -1, d)))


class Module(nn.Module):
    """torch's MultiheadAttention, tokens first or batch first."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.arguments = (batch_first,)
        self.batch_first = batch_first
        self.attention = nn.MultiheadAttention(D, H, batch_first=batch_first)
        nn.init.normal_(self.attention.in_proj_bias)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        x = x.expand(text.shape[0], -1, -1)
        if not self.batch_first:
            x, text = x.transpose(0, 1), text.transpose(0, 1)
        mixed, _ = self.attention(x, text, text, key_padding_mask=mask == 0, need_weights=False)
        return mixed if self.batch_first else mixed.transpose(0, 1)


class QueryNorm(Attend):
    """Queries of length one."""

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = F.normalize(self.split(self.q(x)), dim=-1), self.split(self.k(text)), self.split(self.v(text))
        return self.o(self.merge(torch.softmax(q @ k.transpose(-1, -2), -1) @ v))


class Rotary(Attend):
    """Queries turned by their place."""

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(text)), self.split(self.v(text))
        angle = torch.arange(x.shape[1])[:, None] * torch.logspace(0, -2, d // 2)
        a, b = q.chunk(2, -1)
        q = torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)
        return self.o(self.merge(torch.softmax(q @ k.transpose(-1, -2), -1) @ v))


class Placed(Attend):
    """A learned vector for each place is added to the queries: another map for each token."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.place = nn.Parameter(torch.randn(10, D))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x) + self.place), self.split(self.k(text)), self.split(self.v(text))
        return self.o(self.merge(torch.softmax(q @ k.transpose(-1, -2), -1) @ v))


class RelativeBias(Attend):
    """The queries also ask a table of places."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.table = nn.Parameter(torch.randn(d, 1))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(text)), self.split(self.v(text))
        return self.o(self.merge(torch.softmax(q @ k.transpose(-1, -2) + torch.sin(q @ self.table), -1) @ v))


class ImageInText(Attend):
    """The words have seen the image before they are asked."""

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        text = torch.tanh(text + x.mean(1, keepdim=True))
        q, k, v = self.split(self.q(x)), self.split(self.k(text)), self.split(self.v(text))
        return self.o(self.merge(torch.softmax(q @ k.transpose(-1, -2), -1) @ v))


class NoOutput(Attend):
    """What attention gives is squared before anything projects it."""

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(text)), self.split(self.v(text))
        return self.o(torch.square(self.merge(torch.softmax(q @ k.transpose(-1, -2), -1) @ v)))


class WeightsWanted(Attend):
    """The weights of attention are looked at as well."""

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(text)), self.split(self.v(text))
        weights = torch.softmax(q @ k.transpose(-1, -2) + additive(mask), -1)
        return self.o(self.merge(weights @ v)) * weights.amax((1, 3))[..., None]


class Dropped(Attend):
    """Dropout on the weights, switched off as in evaluation."""

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(text)), self.split(self.v(text))
        weights = F.dropout(torch.softmax(q @ k.transpose(-1, -2), -1), 0.5, self.training)
        return self.o(self.merge(weights @ v))
