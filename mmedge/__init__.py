"""Run camera-plus-text fusion models on robots and smart-home devices.

    with mmedge.load("door.mmedge") as model:
        model.set_text(["a person at the door", "a parcel on the step"])
        result = model(frame)

Importing this package imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmedge.bundle import Bundle, open_bundle
    from mmedge.errors import (
        BundleError,
        EngineError,
        ExportError,
        InputError,
        MissingDependencyError,
        MmedgeError,
        PromptGrammarError,
        SourceError,
        TaskError,
    )
    from mmedge.model import Model, load
    from mmedge.results import Classification, Embedding, Grounding, RawResult, Result
    from mmedge.sources import Frame, open_source
    from mmedge.verification import Verification, verify

    __version__: str

_HOMES = {
    "mmedge.bundle": ("Bundle", "open_bundle"),
    "mmedge.errors": (
        "BundleError",
        "EngineError",
        "ExportError",
        "InputError",
        "MissingDependencyError",
        "MmedgeError",
        "PromptGrammarError",
        "SourceError",
        "TaskError",
    ),
    "mmedge.model": ("Model", "load"),
    "mmedge.results": ("Classification", "Embedding", "Grounding", "RawResult", "Result"),
    "mmedge.sources": ("Frame", "open_source"),
    "mmedge.verification": ("Verification", "verify"),
}

__all__ = [
    "Bundle",
    "BundleError",
    "Classification",
    "Embedding",
    "EngineError",
    "ExportError",
    "Frame",
    "Grounding",
    "InputError",
    "MissingDependencyError",
    "MmedgeError",
    "Model",
    "PromptGrammarError",
    "RawResult",
    "Result",
    "SourceError",
    "TaskError",
    "Verification",
    "__version__",
    "load",
    "open_bundle",
    "open_source",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    else:
        home = next((module for module, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module 'mmedge' has no attribute {name!r}")
        value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mmedge")
    except PackageNotFoundError:
        return "0+unknown"
