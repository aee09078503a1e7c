"""Small CLIP checkpoints with random weights, in the layout of a real Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

_MERGES = [("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t</w>")]


def write_clip_folder(folder: Path, *, tokenizer_files: Path | None = None, image_size: int = 64) -> Path:
    """Write config.json, model.safetensors, the tokenizer and preprocessor_config.json.

    Args:
        folder: Made if absent.
        tokenizer_files: A folder with CLIP's own vocab.json and merges.txt; None makes a tokenizer of letters.
        image_size: Side of the picture; patches are 32 pixels.
    """
    torch.manual_seed(0)
    tokenizer = _tokenizer(tokenizer_files)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**size, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "projection_dim": 32}
    vision = {**size, "patch_size": 32, "image_size": image_size, "projection_dim": 32}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    with torch.no_grad():
        for parameter in model.parameters():
            # The default initialisation is so small that all pictures look alike; scores must differ to be compared.
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edge = {"shortest_edge": image_size}
    CLIPImageProcessorPil(size=edge, crop_size={"height": image_size, "width": image_size}).save_pretrained(folder)
    return folder


def _tokenizer(files: Path | None) -> CLIPTokenizer:
    if files is not None:
        return CLIPTokenizer(vocab=str(files / "vocab.json"), merges=str(files / "merges.txt"))
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in _MERGES)]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=_MERGES)
