"""The tables of a device file that say what counts as an event, and what must not be seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmedge.device.config import PrivacyConfig
from mmedge.device.keys import SCHEMA
from mmedge.device.lines import Path as KeyPath
from mmedge.device.schema import nearest
from mmedge.device.tables import Tables
from mmedge.triggers.settings import TriggerSettings, Zone


def zones(tables: Tables, sources: Mapping[str, Any]) -> dict[str, Zone | None]:
    """The tables ``[zones.NAME]``; None for those that cannot be used."""
    named = tables.reader.tables(tables.values, "zones")
    return {name: _zone(tables, name, table, sources) for name, table in named.items()}


def _zone(tables: Tables, name: str, table: dict[str, Any], sources: Mapping[str, Any]) -> Zone | None:
    path = ("zones", name)
    given = tables.reader.table(table, path, SCHEMA["zones.NAME"])
    if given is None:
        return None
    _known(tables, path, given, sources)
    return tables.reader.make(path, given, lambda: Zone(name, **given))


def triggers(tables: Tables, sources: Mapping[str, Any], zones: Mapping[str, Any]) -> dict[str, TriggerSettings]:
    """The tables ``[triggers.NAME]``, with their thresholds; those that cannot be used are left out."""
    named = tables.reader.tables(tables.values, "triggers")
    found = {name: _trigger(tables, name, table, sources, zones) for name, table in named.items()}
    return {name: trigger for name, trigger in found.items() if trigger is not None}


def _trigger(
    tables: Tables, name: str, table: dict[str, Any], sources: Mapping[str, Any], zones: Mapping[str, Any]
) -> TriggerSettings | None:
    path = ("triggers", name)
    given = tables.reader.table(table, path, SCHEMA["triggers.NAME"])
    if given is None:
        return None
    calibration = given.pop("calibration", None)
    _known(tables, path, given, sources)
    zone = given.get("zone")
    if zone is not None and zone not in zones:
        tables.reader.problem((*path, "zone"), f"there is no zone {zone!r}; {nearest(zone, zones)}")
    settings = tables.reader.make(path, given, lambda: TriggerSettings(name, **given))
    if settings is None:
        return None
    if calibration is not None:
        return _calibrated(tables, (*path, "calibration"), settings, calibration)
    if settings.on is None:
        tables.reader.problem(path, "expected the key 'on' or the key 'calibration', and both are missing")
    return settings


def _calibrated(tables: Tables, path: KeyPath, settings: TriggerSettings, file: str) -> TriggerSettings | None:
    from mmedge.triggers.calibration import load_calibration

    calibration = tables.reader.make(path, {}, lambda: load_calibration(tables.path(file)))
    return None if calibration is None else tables.reader.make(path, {}, lambda: calibration.apply(settings))


def _known(tables: Tables, path: KeyPath, given: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
    for number, source in enumerate(given.get("sources") or ()):
        if source not in sources:
            tables.reader.problem(
                (*path, "sources", number), f"there is no source {source!r}; {nearest(source, sources)}"
            )


def privacy(tables: Tables) -> PrivacyConfig:
    """The table ``[privacy]``."""
    given = tables.single("privacy") or {}
    for number, prompt in enumerate(given.get("blur", ())):
        if not prompt.strip():
            tables.reader.expected(("privacy", "blur", number), "a text that is not empty")
    if not 0 <= (given.get("threshold") or 0) <= 1:
        tables.reader.expected(("privacy", "threshold"), "a number from 0 to 1")
    return PrivacyConfig(**given)
