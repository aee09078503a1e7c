"""Prompts as the command line gives them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmedge.errors import TextInputError

if TYPE_CHECKING:
    from mmedge.model import Model


def gather_prompts(text: list[str], text_file: Path | None) -> list[str]:
    """The prompts of ``--text`` followed by the lines of ``--text-file``, empty ones left out.

    Raises:
        TextInputError: The file cannot be read as UTF-8.
    """
    if text_file is None:
        return text
    try:
        lines = text_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TextInputError(f"--text-file {text_file} cannot be read as UTF-8 text: {error}") from error
    return text + [line.strip() for line in lines if line.strip()]


def set_prompts(model: Model, prompts: list[str]) -> None:
    """Set the prompts of a model that takes some.

    Raises:
        typer.BadParameter: The model takes none and there are some, or the other way round.
        InputError: A prompt cannot be used.
    """
    name, inputs = model.info()["name"], model.info()["inputs"]
    if "text" not in inputs.values():
        if prompts:
            raise typer.BadParameter(f"{name} takes no text; leave --text out")
    elif prompts:
        model.set_text(prompts)
    else:
        raise typer.BadParameter(f'{name} needs at least one prompt: --text "..."')
