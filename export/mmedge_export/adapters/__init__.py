"""Public architectures from local Hugging Face folders: (model, inputs, task), ready for `mmedge_export.export`."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import torch

from mmedge.bundle import Task
from mmedge.errors import ExportError
from mmedge_export.declare import Declaration

ADAPTERS = {"clip": "mmedge_export.adapters.clip"}
"""The module that brings each ``model_type`` of a Hugging Face ``config.json``."""


def from_pretrained(
    folder: Path | str, *, task: str = "classify"
) -> tuple[torch.nn.Module, dict[str, Declaration], Task]:
    """Load a model from a local folder in Hugging Face's layout. Nothing is downloaded.

    Args:
        folder: Holds ``config.json``, ``model.safetensors``, the tokenizer's files and ``preprocessor_config.json``.
        task: What the adapter offers, for CLIP ``classify`` or ``embed``.

    Returns:
        The model in evaluation mode and float32, its inputs with the source's own processors as references, its task.

    Raises:
        ExportError: A file is missing or damaged, or no adapter knows the architecture or the task.
    """
    place = Path(folder)
    config = read_json(place / "config.json")
    kind = config.get("model_type")
    if kind not in ADAPTERS:
        raise ExportError(f"{place}: no adapter for model_type {kind!r}; there are adapters for {', '.join(ADAPTERS)}")
    load = importlib.import_module(ADAPTERS[kind]).load
    loaded: tuple[torch.nn.Module, dict[str, Declaration], Task] = load(place, task)
    return loaded


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        ExportError: There is no such file, or it is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ExportError(f"{path} is missing: expected a model folder in Hugging Face's layout") from error
    except (ValueError, OSError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ExportError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value
