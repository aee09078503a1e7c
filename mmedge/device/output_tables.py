"""The tables of a device file that say where results go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmedge.device.config import SinkConfig
from mmedge.device.keys import SCHEMA, SECRET_FILES, is_path, sink_keys
from mmedge.device.lines import Path as KeyPath
from mmedge.device.schema import Key
from mmedge.device.tables import Tables
from mmedge.errors import InputError, MissingDependencyError
from mmedge.server.settings import ServerSettings


def sinks(tables: Tables) -> dict[str, SinkConfig]:
    """The tables ``[sinks.NAME]``; those that cannot be used are left out."""
    named = tables.reader.tables(tables.values, "sinks")
    found = {name: _sink(tables, ("sinks", name), table) for name, table in named.items()}
    return {name: sink for name, sink in found.items() if sink is not None}


def _sink(tables: Tables, path: KeyPath, table: dict[str, Any]) -> SinkConfig | None:
    keys = _keys(tables, path, table)
    given = None if keys is None else tables.reader.table(table, path, keys)
    if given is None:
        return None
    for name in [name for name in given if name in SECRET_FILES and name not in sink_keys(given["kind"])]:
        file = given.pop(name)
        given[_of_file(name)] = None if file is None else tables.secret((*path, name), file)
    given = _with_paths(tables, given)
    own = {name: given.pop(name) for name in SCHEMA["sinks.NAME"] if name in given}
    return SinkConfig(**own, options=given)


def _keys(tables: Tables, path: KeyPath, table: dict[str, Any]) -> dict[str, Key] | None:
    """The keys that a sink of this kind may have; None where there is no such kind, or not here."""
    kind = table.get("kind")
    if not isinstance(kind, str):
        # Without it nobody can tell which keys are right.
        tables.reader.table({"kind": kind} if "kind" in table else {}, path, SCHEMA["sinks.NAME"])
        return None
    try:
        options = sink_keys(kind)
    except (InputError, MissingDependencyError) as error:
        tables.reader.problem((*path, "kind"), str(error))
        return None
    files = {name: Key(str | None, None) for name in SECRET_FILES if _of_file(name) in options}
    # What may come from a file is not missing where the file is named.
    from_files = {_of_file(name): replace(options[_of_file(name)], default=None) for name in files if name in table}
    return {**files, **options, **from_files, **SCHEMA["sinks.NAME"]}


def _with_paths(tables: Tables, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with paths from the folder of the device file."""
    found = dict(options)
    for name, value in options.items():
        if name == "tls" and isinstance(value, Mapping):
            found[name] = _with_paths(tables, value)
        elif isinstance(value, str) and is_path(name):
            found[name] = os.fspath(tables.path(value))
    return found


def _of_file(name: str) -> str:
    return name.removesuffix("_file")


def server(tables: Tables) -> ServerSettings:
    """The table ``[server]``."""
    given = tables.single("server")
    if given is None:
        return ServerSettings()
    names = dict(given)
    file = given.pop("token_file", None)
    if file is not None and "token" in given:
        tables.reader.problem(("server", "token_file"), "expected either token or token_file, got both")
    elif file is not None:
        given["token"] = tables.secret(("server", "token_file"), file)
        if given["token"] is None:
            return ServerSettings()
    for name in ("certificate", "key"):
        if given.get(name) is not None:
            given[name] = os.fspath(tables.path(given[name]))
    return tables.reader.make(("server",), names, lambda: ServerSettings(**given)) or ServerSettings()
