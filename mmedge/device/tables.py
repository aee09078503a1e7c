"""What reading every table of a device file needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmedge.device.keys import SCHEMA
from mmedge.device.lines import Path as KeyPath
from mmedge.device.reader import Reader
from mmedge.device.secrets import Secrets, read_secret


@dataclass(frozen=True)
class Tables:
    """The values of a device file on their way to its configuration.

    Attributes:
        reader: Checks them, and notes what is wrong.
        values: With variables replaced.
        folder: That relative paths start from.
        secrets: Takes in what must not be told.
    """

    reader: Reader
    values: Mapping[str, Any]
    folder: Path
    secrets: Secrets

    def single(self, name: str) -> dict[str, Any] | None:
        """A table that is there once, checked; None where it cannot be used."""
        return self.reader.table(self.values.get(name, {}), (name,), SCHEMA[name])

    def secret(self, path: KeyPath, file: str) -> str | None:
        """What a file holds that has nothing else in it; None where it cannot be read."""
        try:
            return read_secret(self.path(file), self.secrets)
        except ValueError as error:
            self.reader.problem(path, str(error))
            return None

    def existing(self, path: KeyPath, file: str) -> str:
        """A path that must lead somewhere."""
        found = self.path(file)
        if not found.exists():
            self.reader.problem(path, f"expected a file that exists, got {os.fspath(found)!r}")
        return os.fspath(found)

    def path(self, file: str) -> Path:
        """A path from the folder of the file."""
        return self.folder / Path(file).expanduser()
