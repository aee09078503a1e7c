"""From the text of a device file to a `DeviceConfig`."""

from __future__ import annotations

from pathlib import Path

from mmedge.device import event_tables, input_tables, output_tables
from mmedge.device.config import DeviceConfig
from mmedge.device.keys import SCHEMA
from mmedge.device.lines import parse
from mmedge.device.reader import Reader
from mmedge.device.schema import nearest
from mmedge.device.secrets import Secrets, expand
from mmedge.device.tables import Tables
from mmedge.errors import ConfigError

_LARGEST_FILE = 2**20


def read_config(path: Path) -> DeviceConfig:
    """See `DeviceConfig.read`."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; expected a device file in TOML") from error
    if len(data) > _LARGEST_FILE:
        raise ConfigError(f"{path}: expected a file of at most {_LARGEST_FILE:,} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path.name}:{line}: expected UTF-8 text, got the byte 0x{data[error.start]:02x}") from error
    return parse_config(text, path.absolute().parent, path.name)


def parse_config(text: str, folder: Path, name: str = "device.toml") -> DeviceConfig:
    """The device that a text describes.

    Args:
        text: TOML.
        folder: That relative paths start from.
        name: Of the file, for messages.

    Raises:
        ConfigError: Something in it cannot be used. Each line names line and key.
    """
    values, lines = parse(text, name)
    secrets = Secrets()
    reader = Reader(name, values, lines, secrets)
    expanded = expand(values, secrets, reader.problem)
    return _config(Tables(reader, expanded, folder, secrets))


def _config(tables: Tables) -> DeviceConfig:
    known = list(dict.fromkeys(table.partition(".")[0] for table in SCHEMA))
    for name in tables.values:
        if name not in known:
            tables.reader.problem((name,), f"there is no such table; {nearest(name, known)}")
    device = tables.single("device")
    models = input_tables.models(tables)
    sources = input_tables.sources(tables, models)
    zones = event_tables.zones(tables, sources)
    privacy = event_tables.privacy(tables)
    config = DeviceConfig(
        models={name: model for name, model in models.items() if model is not None},
        sources={name: source for name, source in sources.items() if source is not None},
        name=(device or {}).get("name", "mmedge"),
        zones={name: zone for name, zone in zones.items() if zone is not None},
        triggers=event_tables.triggers(tables, sources, zones),
        privacy=privacy,
        sinks=output_tables.sinks(tables),
        server=output_tables.server(tables),
        secrets=tables.secrets,
    )
    tables.reader.done()
    return config
