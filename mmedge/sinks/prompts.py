"""Prompts as payloads: what a command may hold, and how the prompts in force are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from mmedge.errors import InputError

MOST_BYTES = 16384
"""Of a command."""
MOST_TEXT = 255
"""Characters of a state in Home Assistant."""

_EXPECTED = "expected a JSON list of prompts, or prompts separated by ';' or new lines"


def parse_prompts(payload: bytes) -> list[str]:
    """The prompts of a command.

    Args:
        payload: UTF-8: a JSON list of strings, or prompts separated by ``;`` or new lines.

    Raises:
        InputError: It is too large, or none of these.
    """
    if len(payload) > MOST_BYTES:
        raise InputError(f"expected at most {MOST_BYTES:,} bytes of prompts, got {len(payload):,}")
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{_EXPECTED}, in UTF-8") from error
    prompts = _listed(text) if text.startswith("[") else re.split(r"[;\r\n]", text)
    cleaned = [prompt.strip() for prompt in prompts if prompt.strip()]
    if any("\ud800" <= character <= "\udfff" for prompt in cleaned for character in prompt):
        raise InputError(f"{_EXPECTED}, got half a character")
    if not cleaned:
        raise InputError(f"{_EXPECTED}, got none")
    return cleaned


def prompts_line(prompts: Sequence[str]) -> str:
    """`prompts` as one line that `parse_prompts` reads, or "" where that is longer than Home Assistant takes."""
    plain = not any(re.search(r"[;\r\n]", prompt) or prompt.startswith("[") for prompt in prompts)
    line = "; ".join(prompts) if plain else json.dumps(list(prompts), ensure_ascii=False)
    return line if len(line) <= MOST_TEXT else ""


def _listed(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{_EXPECTED}, got a list that is no JSON") from error
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InputError(f"{_EXPECTED}, got a list that holds other things than text")
    return value
