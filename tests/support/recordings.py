"""What is in MCAP files, by MCAP's own readers."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader


class Entry(NamedTuple):
    topic: str
    schema: str
    at: int
    value: dict[str, Any]


def read_finished(path: Path) -> list[Entry]:
    """By the index at the file's end, which must be there; checksums verified."""
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        found = [
            Entry(channel.topic, "" if schema is None else schema.name, message.log_time, json.loads(message.data))
            for schema, channel, message in reader.iter_messages(log_time_order=False)
        ]
        assert summary.statistics.message_count == len(found)
        return found


def read_cut(path: Path) -> tuple[list[Entry], bool]:
    """From the front to where a killed writer got, and whether it had finished; checksums verified."""
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    found: list[Entry] = []
    with path.open("rb") as file:
        try:
            for record in StreamReader(file, validate_crcs=True).records:
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    channels[record.id] = record
                elif isinstance(record, Message):
                    channel = channels[record.channel_id]
                    found.append(
                        Entry(channel.topic, schemas[channel.schema_id].name, record.log_time, json.loads(record.data))
                    )
        except (EndOfFile, struct.error):  # the library's words for an end within a record
            return found, False
    return found, True
