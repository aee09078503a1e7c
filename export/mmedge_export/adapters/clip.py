"""CLIP: a dual encoder that scores a picture against prompts, from a local Hugging Face folder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging as transformers_logging

from mmedge.bundle import Classify, Embed, Task
from mmedge.errors import ExportError
from mmedge_export.declare import Declaration, Image, Text

Array = npt.NDArray[np.generic]

_INTERPOLATION = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters that the device can repeat to the bit."""


class ClipModule(torch.nn.Module):
    """CLIP with the outputs that a device needs.

    Args:
        clip: The Hugging Face model.
        scores: Also return the logits of the picture against each prompt.
    """

    def __init__(self, clip: CLIPModel, *, scores: bool) -> None:
        super().__init__()
        self.clip = clip
        self._scores = scores

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """pixel_values float32 [1, 3, H, W], input_ids and attention_mask int64 [n, l] → logits [1, n] and embeddings.

        The embeddings, [1, d] and [n, d], have length 1.
        """
        out = self.clip(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
        embeddings = {"image_embedding": out.image_embeds, "text_embedding": out.text_embeds}
        return {"logits": out.logits_per_image, **embeddings} if self._scores else embeddings


def load(folder: Path, task: str) -> tuple[torch.nn.Module, dict[str, Declaration], Task]:
    """Load CLIP from `folder` for ``classify`` or ``embed``.

    Raises:
        ExportError: A file is missing or damaged, the preprocessing is not what the device can repeat, or the task is
            unknown.
    """
    tasks: dict[str, Task] = {
        "classify": Classify("logits", "softmax", "image_embedding", "text_embedding"),
        "embed": Embed("image_embedding", "text_embedding"),
    }
    if task not in tasks:
        raise ExportError(f"CLIP offers the tasks {' and '.join(tasks)}, got {task!r}")
    clip = _part(folder, "weights", lambda: _weights(folder))
    tokenizer = _part(folder, "tokenizer", lambda: _tokenizer(folder))
    processor = _part(folder, "preprocessor", lambda: _processor(folder))
    inputs: dict[str, Declaration] = {
        "image": _image(processor, clip.config.vision_config.image_size),
        "text": _text(tokenizer, clip.config.text_config),
    }
    return ClipModule(clip, scores=task == "classify"), inputs, tasks[task]


def _weights(folder: Path) -> CLIPModel:
    if not any(folder.glob("model*.safetensors")):
        raise FileNotFoundError("no model.safetensors (pickled weights are not read: convert them)")
    # transformers annotates one return type whatever is asked for.
    loaded: Any = CLIPModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers fills absent weights with random numbers and only logs it.
        raise ValueError(f"model.safetensors lacks {len(missing)} weights, such as {missing[0]}")
    return cast(CLIPModel, model.eval())


def _tokenizer(folder: Path) -> CLIPTokenizer:
    # transformers makes an empty tokenizer of a folder that has none, without a word.
    if not (folder / "tokenizer.json").is_file() and not all(
        (folder / n).is_file() for n in ("vocab.json", "merges.txt")
    ):
        raise FileNotFoundError("no tokenizer.json, and no vocab.json with merges.txt")
    return cast(CLIPTokenizer, CLIPTokenizer.from_pretrained(folder, local_files_only=True))


def _processor(folder: Path) -> CLIPImageProcessorPil:
    if not (folder / "preprocessor_config.json").is_file():
        raise FileNotFoundError("no preprocessor_config.json")
    return CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)


def _part(folder: Path, what: str, read: Any) -> Any:
    hf_logging: Any = transformers_logging
    bars = hf_logging.is_progress_bar_enabled()
    try:
        hf_logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except Exception as error:
        # transformers, safetensors and json raise many kinds; the user needs the folder, the part and the words.
        raise ExportError(f"{folder}: the {what} cannot be loaded: {error}") from error
    finally:
        if bars:
            hf_logging.enable_progress_bar()


def _image(processor: CLIPImageProcessorPil, expected: int) -> Image:
    size, crop = dict(processor.size), dict(processor.crop_size or {})
    edge = size.get("shortest_edge")
    stretch = (size.get("height"), size.get("width"))
    target = (crop["height"], crop["width"]) if processor.do_center_crop else stretch
    steps = processor.do_resize and processor.do_rescale and processor.do_normalize
    known = processor.resample in _INTERPOLATION and (edge or processor.do_center_crop is False)
    if not steps or not known or target != (expected, expected) or abs(processor.rescale_factor * 255 - 1) > 1e-9:
        raise ExportError(
            f"the device cannot repeat this preprocessor (size {size}, crop {crop}, resample {processor.resample}): "
            f"expected resize, centre crop to {expected}x{expected}, rescale by 1/255 and normalise"
        )

    def reference(frame: npt.NDArray[np.uint8]) -> Mapping[str, Array]:
        rgb = np.ascontiguousarray(frame[:, :, ::-1])
        pixels = processor(images=[rgb], input_data_format="channels_last", return_tensors="np")["pixel_values"]
        return {"pixel_values": np.asarray(pixels, dtype=np.float32)}

    return Image(
        size=(expected, expected),
        resize="shortest-edge" if edge else "stretch",
        shortest_edge=edge,
        crop="center" if processor.do_center_crop else "none",
        interpolation=_INTERPOLATION[int(processor.resample)],
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        reference=reference,
    )


def _text(tokenizer: CLIPTokenizer, config: Any) -> Text:
    length = int(config.max_position_embeddings)

    def reference(prompts: Sequence[str]) -> Mapping[str, Array]:
        tokens = tokenizer(list(prompts), padding=True, truncation=True, max_length=length, return_tensors="np")
        return {name: np.asarray(tokens[name], dtype=np.int64) for name in ("input_ids", "attention_mask")}

    return Text(
        tokenizer=tokenizer.backend_tokenizer.to_str(),
        max_length=length,
        pad_id=int(tokenizer.pad_token_id),
        vocab_size=int(config.vocab_size),
        reference=reference,
    )
