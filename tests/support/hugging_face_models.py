"""Small fusion models of Hugging Face with random weights, nothing of them downloaded."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BlipConfig,
    BlipForImageTextRetrieval,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SwinConfig,
    ViltConfig,
    ViltModel,
)
from transformers.models.grounding_dino import modeling_grounding_dino

import mmedge_export as mx
from support.fusion_models import FusionModel, declared

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
}
WORDS = 64
MASKS = "generate_masks_with_special_tokens_and_transfer_map"


class ImageTextMatching(nn.Module):
    """BLIP's matching head, and the one image repeated for every prompt, as its users do."""

    def __init__(self) -> None:
        super().__init__()
        text = {**SMALL, "vocab_size": WORDS, "encoder_hidden_size": 32, "max_position_embeddings": 80}
        # The special tokens must be rows of the small table.
        text |= {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": 2, "sep_token_id": 2}
        config = BlipConfig(
            text_config=text, vision_config={**SMALL, "image_size": 32, "patch_size": 8}, image_text_hidden_size=32
        )
        self.blip = BlipForImageTextRetrieval(config)

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """pixel_values [1, 3, 32, 32], input_ids and attention_mask [n, l] → match [n, 2]."""
        repeated = pixel_values.repeat(input_ids.shape[0], 1, 1, 1)
        out = self.blip(pixel_values=repeated, input_ids=input_ids, attention_mask=attention_mask)
        return {"match": out.itm_score}


def blip() -> FusionModel:
    """Image-text matching: prompt tokens ask image tokens."""
    return _model(ImageTextMatching)


class SingleStream(nn.Module):
    """ViLT on one image and n prompts: words and patches in one sequence.

    ViLT draws which patches it keeps at random and interpolates its positions by the sum of a mask. For a picture of
    its own size, all of whose patches are kept, that is the plain sum of patches and positions, computed here and given
    as `image_embeds`.
    """

    def __init__(self) -> None:
        super().__init__()
        config = ViltConfig(**SMALL, vocab_size=WORDS, image_size=32, patch_size=8, max_position_embeddings=80)
        self.vilt = ViltModel(config)
        self.answer = nn.Linear(32, 3)

    def see(self, pixel_values: Tensor) -> Tensor:
        """[1, 3, 32, 32] → class token and patches with their positions [1, 17, 32]."""
        embeddings = self.vilt.embeddings
        patches = embeddings.patch_embeddings(pixel_values).flatten(2).transpose(1, 2)
        return torch.cat([embeddings.cls_token, patches], dim=1) + embeddings.position_embeddings

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """pixel_values [1, 3, 32, 32], input_ids and attention_mask [n, l] → answers [n, 3]."""
        seen = self.see(pixel_values).expand(input_ids.shape[0], -1, -1)
        mask = torch.ones(seen.shape[:2], dtype=torch.int64)
        out = self.vilt(input_ids=input_ids, attention_mask=attention_mask, image_embeds=seen, pixel_mask=mask)
        return {"answers": self.answer(out.pooler_output)}


def vilt() -> FusionModel:
    """Joint from the first layer on: nothing but the embeddings depends on one modality."""
    return _model(SingleStream)


def phrase_masks(input_ids: Tensor, special_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What `generate_masks_with_special_tokens_and_transfer_map` gives, without what ONNX has no operator for.

    Its `isin`, `cummax` and `cummin` become comparisons of each token with each other.

    Args:
        input_ids: [n, l] int64.
        special_tokens: Those that end a phrase.

    Returns:
        Which token sees which, bool [n, l, l], and the place of each in its phrase, int64 [n, l].
    """
    length = input_ids.shape[1]
    place = torch.arange(length)
    ends = (input_ids[..., None] == special_tokens).any(-1)[:, None, :]
    before = torch.where(ends & (place[None, :] < place[:, None]), place, -1).amax(-1)
    after = torch.where(ends & (place[None, :] >= place[:, None]), place, length).amin(-1)
    whole = (after != 0) & (after != length - 1) & (after != length)
    sees = (after[:, :, None] == after[:, None, :]) & whole[:, None, :]
    return sees | torch.eye(length, dtype=torch.bool), torch.where(whole, place - before - 1, 0)


class OpenSetDetector(nn.Module):
    """Grounding DINO on one image and one caption, which holds all that is looked for."""

    def __init__(self) -> None:
        super().__init__()
        backbone = SwinConfig(
            image_size=32, patch_size=4, embed_dim=16, depths=[1], num_heads=[2], window_size=4, out_indices=[1]
        )
        text = BertConfig(**SMALL, vocab_size=WORDS, max_position_embeddings=80)
        # Two layers of the encoder, as the prompt is free of the image in the first one alone; one of the decoder, as
        # each is many nodes to trace.
        config = GroundingDinoConfig(
            backbone_config=backbone, text_config=text, d_model=32, num_queries=5, num_feature_levels=1,
            encoder_layers=2, encoder_ffn_dim=64, encoder_attention_heads=4, encoder_n_points=2,
            decoder_layers=1, decoder_ffn_dim=64, decoder_attention_heads=4, decoder_n_points=2,
            decoder_bbox_embed_share=False, max_text_len=80,
        )  # fmt: skip
        self.detector = GroundingDinoForObjectDetection(config)

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """pixel_values [1, 3, 32, 32], input_ids and attention_mask [1, l] → scores [1, 5, 80], boxes [1, 5, 4]."""
        # Its checks of its own shapes are another thing that ONNX has no operator for.
        replaced = {MASKS: phrase_masks, "torch_compilable_check": lambda *_: None}
        with patch.multiple(modeling_grounding_dino, **replaced):
            out = self.detector(pixel_values=pixel_values, input_ids=input_ids, attention_mask=attention_mask)
        # Logits of what is no token of the caption are minus infinity.
        return {"scores": out.logits.sigmoid(), "boxes": out.pred_boxes}


def grounding_dino() -> FusionModel:
    """Image and caption ask each other in every layer of the encoder."""
    return _model(OpenSetDetector, prompts=1)


def _model(make: type[nn.Module], prompts: int | None = None) -> FusionModel:
    torch.manual_seed(0)
    module = make()
    with torch.no_grad():
        for parameter in module.parameters():
            # The default initialisation is so small that all pictures and prompts look alike.
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    inputs = declared(32, WORDS, 77, axes=(prompts or "n", "l"))
    return FusionModel(module.eval(), inputs, mx.Raw(), prompts)
