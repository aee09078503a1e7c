"""A small random cross-attention model, and what is needed to export, run and compare any fusion model.

Letters: N prompts of L tokens, M image tokens, D width, H heads, d = D / H.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

import mmedge
import mmedge_export as mx
from mmedge_export.capture import TorchSource
from mmedge_export.declare import Declaration
from mmedge_export.samples import sample_tensors

TRACED = (3, 5)
"""Prompts and tokens of the first sample: the one that is traced."""
ELSEWHERE = ((1, 1), (2, 24), (5, 3))
"""Prompts and tokens at which the exported program is compared with the model besides: short prompts and long ones,
so that each form of the program runs."""


@dataclass(frozen=True)
class FusionModel:
    """A model and its declarations, ready for `mx.export`.

    Attributes:
        module: Takes the declared tensors by keyword.
        inputs: An ``image`` and a ``text``.
        task: What the outputs mean.
        prompts: The number of prompts that it takes; None: any.
    """

    module: nn.Module
    inputs: dict[str, Declaration]
    task: mx.Raw
    prompts: int | None = None

    def sample(self, prompts: int, tokens: int, seed: int = 0) -> mx.Sample:
        """A random frame and prompts of random words, the first of them `tokens` long and the others up to that."""
        random = np.random.default_rng([seed, prompts, tokens])
        declared = self.inputs["text"]
        assert isinstance(declared, mx.Text)
        words = [f"w{i}" for i in random.integers(1, declared.contract.vocab_size, 128 * prompts)]
        lengths = [tokens, *random.integers(1, tokens + 1, prompts - 1)]
        said = [" ".join(words[128 * i : 128 * i + length]) for i, length in enumerate(lengths)]
        frame = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        return mx.Sample(frame, tuple(said[: self.prompts]))

    def export(self, out: Path, **options: Any) -> mx.Report:
        """Export it, traced with `TRACED` and compared there and elsewhere."""
        samples = [self.sample(*sizes, seed=1) for sizes in (TRACED, ELSEWHERE[0])]
        settings = {"samples": samples, "progress": False, **options}
        return mx.export(
            self.module, inputs=self.inputs, task=self.task, out=out, precision="fp32", options=mx.Options(**settings)
        )

    def expected(self, sample: mx.Sample) -> dict[str, NDArray[Any]]:
        """What the torch module says of a sample, by the name of the output."""
        return TorchSource(self.module).run(sample_tensors(self.inputs, sample))


def largest_error(source: FusionModel, model: mmedge.Model, prompts: int, tokens: int) -> float:
    """||exported - torch|| / ||torch|| of a fresh sample, the largest over the outputs of a task `mx.Raw`."""
    sample = source.sample(prompts, tokens, seed=2)
    expected = source.expected(sample)
    model.set_text(sample.prompts)
    result = model(sample.frame)
    assert isinstance(result, mmedge.RawResult)
    errors = []
    for name, right in expected.items():
        assert np.isfinite(right).all(), f"{name}: the model itself gives numbers that are not finite"
        assert np.linalg.norm(right) > 0, f"{name}: the model itself gives nothing but zeros"
        errors.append(float(np.linalg.norm(result.outputs[name] - right) / np.linalg.norm(right)))
    return max(errors)


def word_tokenizer(words: int) -> str:
    """A tokenizer of the words w0, w1, ...: a prompt of k words has k tokens. The token 0 is padding."""
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return str(tokenizer.to_str())


def declared(side: int, words: int, max_length: int, **text: Any) -> dict[str, Declaration]:
    """A square picture and prompts."""
    image = mx.Image(size=(side, side), resize="stretch", crop="none", mean=(0.5,) * 3, std=(0.25,) * 3)
    return {"image": image, "text": mx.Text(word_tokenizer(words), max_length=max_length, **text)}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a `CrossAttentionModel`; those of a ViT-B/16 are D=768, H=12, image_layers=12, patch=16, side=224.

    Attributes:
        image_layers, text_layers, layers: Transformer layers of the image tower, the text tower and the cross-attention
            between them.
        mlp: Width of the MLPs of the cross-attention layers as a multiple of D.
        look_around: A self-attention among the image tokens in each of these layers.
        words, max_length: Of the vocabulary and of a prompt.
    """

    D: int = 32
    H: int = 4
    image_layers: int = 1
    text_layers: int = 1
    layers: int = 2
    mlp: int = 4
    side: int = 32
    patch: int = 8
    look_around: bool = False
    words: int = 64
    max_length: int = 77

    @property
    def M(self) -> int:  # noqa: N802
        return (self.side // self.patch) ** 2


CLIP_SIZED = Sizes(D=768, H=12, image_layers=12, layers=6, side=224, patch=16, words=4096)


class CrossAttention(nn.Module):
    """Image tokens [1 or N, M, D] ask prompt tokens [N, L, D]; mask [N, L] int64, 1 on words → [N, M, D]."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.q, self.k, self.v, self.o = (nn.Linear(sizes.D, sizes.D) for _ in range(4))

    def heads(self, x: Tensor) -> Tensor:
        """[n, tokens, D] → [n, H, tokens, d]."""
        return x.unflatten(-1, (self.sizes.H, -1)).transpose(1, 2)

    def scores(self, q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
        """[1 or N, H, M, d], [N, H, L, d] and [N, L] → [N, H, M, L]."""
        products = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return products.masked_fill(mask[:, None, None, :] == 0, -1e9)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.heads(self.q(x)), self.heads(self.k(text)), self.heads(self.v(text))
        mixed: Tensor = self.o((self.scores(q, k, mask).softmax(-1) @ v).transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """Pre-norm: cross-attention, self-attention where asked for, MLP, each added to what it was given."""

    def __init__(self, sizes: Sizes, attention: Callable[[Sizes], nn.Module]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.D)
        self.attention = attention(sizes)
        self.around = _layer(sizes) if sizes.look_around else None
        self.mlp_norm = nn.LayerNorm(sizes.D)
        self.mlp = nn.Sequential(
            nn.Linear(sizes.D, sizes.mlp * sizes.D), nn.GELU(), nn.Linear(sizes.mlp * sizes.D, sizes.D)
        )

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x), text, mask)
        if self.around is not None:
            x = self.around(x)
        thought: Tensor = self.mlp(self.mlp_norm(x))
        return x + thought


class CrossAttentionModel(nn.Module):
    """A vision transformer whose tokens then ask the prompts, with weights drawn from seed 0.

    Args:
        sizes: Its sizes.
        attentions: Make the cross-attention of each layer: (x [1 or N, M, D], text [N, L, D], mask [N, L]) →
            [N, M, D]. None: `CrossAttention` in all of them.
    """

    def __init__(self, sizes: Sizes, attentions: Sequence[Callable[[Sizes], nn.Module]] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sizes = sizes
        self.patches = nn.Conv2d(3, sizes.D, sizes.patch, stride=sizes.patch)
        self.place = nn.Parameter(torch.randn(sizes.M, sizes.D))
        self.see = nn.ModuleList(_layer(sizes) for _ in range(sizes.image_layers))
        self.words = nn.Embedding(sizes.words, sizes.D)
        self.position = nn.Parameter(torch.randn(sizes.max_length, sizes.D))
        self.read = nn.ModuleList(_layer(sizes) for _ in range(sizes.text_layers))
        self.blocks = nn.ModuleList(Block(sizes, make) for make in attentions or [CrossAttention] * sizes.layers)
        self.norm = nn.LayerNorm(sizes.D)
        self.score = nn.Linear(sizes.D, 1)

    def context(self, x: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The prompt tokens [N, L, D]; the image tokens `x` [1, M, D] have no part in it."""
        text = self.words(input_ids) + self.position[: input_ids.shape[1]]
        for layer in self.read:
            text = layer(text, src_key_padding_mask=attention_mask == 0)
        return text

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """pixel_values [1, 3, side, side], input_ids and attention_mask [N, L] → logits [1, N], tokens [N, M, D]."""
        x = self.patches(pixel_values).flatten(2).transpose(1, 2) + self.place
        for layer in self.see:
            x = layer(x)
        text = self.context(x, input_ids, attention_mask)
        for block in self.blocks:
            x = block(x, text, attention_mask)
        tokens = self.norm(x)
        return {"logits": self.score(tokens).amax((1, 2))[None], "tokens": tokens}


def _layer(sizes: Sizes) -> nn.Module:
    return nn.TransformerEncoderLayer(
        sizes.D, sizes.H, 4 * sizes.D, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


def cross_attention_model(
    sizes: Sizes | None = None, attentions: Sequence[Callable[[Sizes], nn.Module]] | None = None
) -> FusionModel:
    """A `CrossAttentionModel` with its declarations."""
    sizes = sizes or Sizes()
    return with_declarations(CrossAttentionModel(sizes, attentions))


def with_declarations(module: CrossAttentionModel) -> FusionModel:
    """A model with the picture and the prompts that it takes."""
    sizes = module.sizes
    return FusionModel(module.eval(), declared(sizes.side, sizes.words, sizes.max_length), mx.Raw())
