"""The tables of a device file that say what is watched, and by which model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmedge.device.config import SHOWN, ModelConfig, SourceConfig
from mmedge.device.keys import SCHEMA
from mmedge.device.lines import Path as KeyPath
from mmedge.device.schema import nearest
from mmedge.device.secrets import password_of
from mmedge.device.source_names import check_source, from_folder
from mmedge.device.tables import Tables
from mmedge.streaming.options import Backoff, SourceOptions


def models(tables: Tables) -> dict[str, ModelConfig | None]:
    """The tables ``[models.NAME]``; None for those that cannot be used. Without any, the built-in model."""
    if "models" not in tables.values:
        return {"model": ModelConfig(prompts=SHOWN)}
    named = tables.reader.tables(tables.values, "models")
    return {name: _model(tables, ("models", name), table) for name, table in named.items()}


def _model(tables: Tables, path: KeyPath, table: dict[str, Any]) -> ModelConfig | None:
    given = tables.reader.table(table, path, SCHEMA["models.NAME"])
    if given is None:
        return None
    if given.get("bundle", "tabletop") != "tabletop":
        given["bundle"] = tables.existing((*path, "bundle"), given["bundle"])
    if not 0 <= (given.get("threshold") or 0) <= 1:
        tables.reader.expected((*path, "threshold"), "a number from 0 to 1")
    prompts = [*given.get("prompts", ()), *_prompt_file(tables, path, given)]
    for number, prompt in enumerate(given.get("prompts", ())):
        if not prompt.strip():
            tables.reader.expected((*path, "prompts", number), "a text that is not empty")
    return ModelConfig(**{**given, "prompts": tuple(dict.fromkeys(prompts))})


def _prompt_file(tables: Tables, path: KeyPath, given: dict[str, Any]) -> list[str]:
    if given.get("prompt_file") is None:
        return []
    file = given["prompt_file"] = tables.existing((*path, "prompt_file"), given["prompt_file"])
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines() if os.path.isfile(file) else []
    except (OSError, UnicodeDecodeError) as error:
        tables.reader.problem((*path, "prompt_file"), f"expected UTF-8 text that can be read: {error}")
        return []
    return [line.strip() for line in lines if line.strip()]


def sources(tables: Tables, models: Mapping[str, ModelConfig | None]) -> dict[str, SourceConfig | None]:
    """The tables ``[sources.NAME]``; None for those that cannot be used."""
    named = tables.reader.tables(tables.values, "sources")
    if not tables.values.get("sources", {}) and not named:
        tables.reader.problem(("sources",), "expected at least one table [sources.NAME] with the key 'url', got none")
    return {name: _source(tables, name, table, models) for name, table in named.items()}


def _source(
    tables: Tables, name: str, table: dict[str, Any], models: Mapping[str, ModelConfig | None]
) -> SourceConfig | None:
    path = ("sources", name)
    given = tables.reader.table(table, path, SCHEMA["sources.NAME"])
    backoff = tables.reader.table(table.get("backoff", {}), (*path, "backoff"), SCHEMA["sources.NAME.backoff"])
    if given is None or backoff is None:
        return None
    model = given.pop("model", None)
    if model is None and len(models) == 1:
        model = next(iter(models))
    elif model is None and models:
        tables.reader.problem(path, f"expected the key 'model', one of {', '.join(models)}, and it is missing")
    elif model is not None and model not in models:
        tables.reader.problem((*path, "model"), f"there is no model {model!r}; {nearest(model, models)}")
    blur = given.pop("blur", ())
    for number, (x0, y0, x1, y1) in enumerate(blur):
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
            tables.reader.expected((*path, "blur", number), "[x0, y0, x1, y1] in 0..1, x0 < x1 and y0 < y1")
    url = _url(tables, path, given.pop("url"), given.pop("password_file", None))
    given = {"reconnect": "always", **given, "backoff": Backoff(**backoff)}
    return SourceConfig(SourceOptions(url, name, **given), model or "", blur)


def _url(tables: Tables, path: KeyPath, url: str, password_file: str | None) -> str:
    if not url.strip():
        tables.reader.expected((*path, "url"), "the name of a source")
    tables.reader.make((*path, "url"), {}, lambda: check_source(url))
    if password_file is not None:
        user, at, host = url.partition("@")
        if not at or ":" in user.partition("://")[2]:
            tables.reader.expected((*path, "url"), "USER@ and no password in it, because there is a password_file")
        elif (password := tables.secret((*path, "password_file"), password_file)) is not None:
            url = f"{user}:{quote(password, safe='')}@{host}"
    elif (password := password_of(url)) is not None:
        tables.secrets.add(password)
    return from_folder(url, tables.folder)
