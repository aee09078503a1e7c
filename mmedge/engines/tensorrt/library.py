"""The library that builds and runs engines: TensorRT or TensorRT-RTX, whose Python interfaces are alike."""

from __future__ import annotations

import importlib
import logging
import re
from dataclasses import dataclass
from typing import Any

from mmedge.errors import EngineError

_log = logging.getLogger("mmedge")

_MODULES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx_bindings"}

_INSTALL = {
    "tensorrt": "pip install tensorrt-cu13, or on a Jetson the TensorRT of its JetPack",
    "tensorrt_rtx": "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs",
}

_KEPT = 12


@dataclass(frozen=True)
class Library:
    """An imported library.

    Attributes:
        name: ``tensorrt`` or ``tensorrt_rtx``.
        trt: The module.
        version: Such as ``1.7.1.116``; engines of another version cannot be loaded.
    """

    name: str
    trt: Any
    version: str

    def architectures(self) -> tuple[str, ...]:
        """The architectures for which this library builds without their GPU, such as ``sm_89``; () where it cannot."""
        kinds = getattr(self.trt, "ComputeCapability", None)
        names = () if kinds is None else kinds.__members__
        found = sorted(int(name[2:]) for name in names if re.fullmatch(r"SM\d+", name))
        return tuple(f"sm_{number}" for number in found)


def open_library(name: str) -> Library:
    """Import the library `name`, ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        EngineError: There is no such library, or it is not installed.
    """
    if name not in _MODULES:
        raise EngineError(f"library must be one of {', '.join(_MODULES)}, got {name!r:.60}")
    try:
        trt = importlib.import_module(_MODULES[name])
    except (ImportError, OSError, RuntimeError) as error:  # a wheel without its libraries fails in each of these ways
        raise EngineError(f"{name} cannot be imported ({error}); install it: {_INSTALL[name]}") from error
    return Library(name, trt, str(trt.__version__))


def messages(library: Library) -> Any:
    """A new logger for `library` that keeps what it is told: see `Messages`."""
    base: type[Any] = library.trt.ILogger

    class _Messages(Messages, base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            Messages.__init__(self)

    return _Messages()


class Messages:
    """Collects the library's messages: errors for the exception that follows, everything for the debug log."""

    def __init__(self) -> None:
        self._errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        """Called by the library."""
        text = " ".join(message.split())
        # Without a GPU the library asks for one here and there, says so as an error, and goes on.
        if severity.name in ("ERROR", "INTERNAL_ERROR") and "cudaError 35" not in text:
            self._errors = [*self._errors[1 - _KEPT :], text]
        _log.debug("tensorrt %s: %s", severity.name.lower(), text)

    def clear(self) -> None:
        """Forget the errors."""
        self._errors = []

    def errors(self) -> str:
        """The errors since the last `clear`, in one line; what to say if there are none."""
        return "; ".join(self._errors)[:1500] or "the library gave no reason (`mmedge --debug` shows all it said)"
