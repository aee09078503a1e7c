"""Models that use the kernels' operators export like any other, and their prompts are compiled in the text's stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

import mmedge
import mmedge_export as mx
from mmedge_kernels.cross_attention import cross_attention
from mmedge_kernels.prompt_attention import compile_prompt, prompt_attention

WORDS = ["[PAD]", "[UNK]", "red", "blue", "cube", "ball", "the", "a"]
WIDTH, HEADS = 16, 4


class CompiledPrompts(nn.Module):
    """Image tokens ask prompts through matrices that only the text makes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.see = nn.Conv2d(3, WIDTH, 8, stride=8)
        self.say = nn.Embedding(len(WORDS), WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        image = self.see(pixels).flatten(2).transpose(1, 2)
        named = {"wq": self.q, "wk": self.k, "wv": self.v, "wo": self.o}
        weights = {name: layer.weight for name, layer in named.items()}
        biases = {f"b{name[1]}": layer.bias for name, layer in named.items()}
        compiled = compile_prompt(
            self.say(ids), **weights, **biases, heads=HEADS, norm=(self.norm.weight, self.norm.bias), mask=mask != 0
        )
        asked = prompt_attention(image, *compiled, heads=HEADS, residual=image, norm_eps=self.norm.eps)
        return {"logits": asked.mean((0, 2, 3))}

    def plainly(self, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The same with ordinary layers."""
        image = self.see(pixels).flatten(2).transpose(1, 2)
        text = self.say(ids)
        query, keys, values = (
            torch.unflatten(part, -1, (HEADS, -1)).transpose(1, 2)
            for part in (self.q(self.norm(image)), self.k(text), self.v(text))
        )
        mixed = nn.functional.scaled_dot_product_attention(
            query.expand(len(ids), -1, -1, -1), keys, values, mask[:, None, None, :] != 0
        )
        return (image + self.o(mixed.transpose(1, 2).flatten(2))).mean((1, 2))


class CachedKeys(CompiledPrompts):
    """The same attention on keys and values; all prompts together are one text of [1, H, n * l, d]."""

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        image = self.see(pixels).flatten(2).transpose(1, 2)
        text = self.say(ids).flatten(0, 1)[None]
        query, keys, values = (
            torch.unflatten(part, -1, (HEADS, -1)).transpose(1, 2)
            for part in (self.q(self.norm(image)), self.k(text), self.v(text))
        )
        mixed = cross_attention(query, keys, values, key_mask=(mask != 0).flatten()[None])
        return {"logits": self.o(mixed.transpose(1, 2).flatten(2)).mean((0, 1))}


def declared() -> dict[str, mx.Image | mx.Text]:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return {
        "image": mx.Image(size=(32, 48), name="pixels", resize="stretch", crop="none", interpolation="bilinear"),
        "text": mx.Text(str(words.to_str()), max_length=12, ids="ids", mask="mask"),
    }


def test_cross_attention_exports_as_standard_operators(tmp_path: Path) -> None:
    report = mx.export(CachedKeys(), inputs=declared(), task=mx.Raw(), out=tmp_path / "k.mmedge")
    assert max(report.verification.errors.values()) < 1e-5


def test_prompts_are_compiled_once_and_frames_pay_for_two_products(tmp_path: Path) -> None:
    module = CompiledPrompts()
    options = mx.Options(merge_below=0.0)
    report = mx.export(
        module, inputs=declared(), task=mx.Classify("logits", "none"), out=tmp_path / "c.mmedge", options=options
    )
    stages = {stage.label: stage for stage in report.manifest.stages}
    assert set(stages) == {("image",), ("text",), ("image", "text")}
    with mmedge.load(report.path) as model:
        model.set_text(["red cube", "the blue ball"])
        for seed in range(3):
            frame = np.random.default_rng(seed).integers(0, 256, (32, 48, 3), dtype=np.uint8)
            result = model(frame)
            pixels = np.ascontiguousarray(frame[:, :, ::-1]).transpose(2, 0, 1)[None] / np.float32(255)
            ids, mask = torch.tensor([[2, 4, 0], [6, 3, 5]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
            with torch.no_grad():
                expected = module.plainly(torch.from_numpy(pixels.astype(np.float32)), ids, mask)
            assert isinstance(result, mmedge.Classification)
            np.testing.assert_allclose(result.scores, expected.numpy(), rtol=1e-4, atol=1e-6)
        assert model.stats()["text"]["runs"] == 1
