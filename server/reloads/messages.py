"""Messages between a node and its reload process: lines of JSON, over the process's standard streams.

node: ReloadBegin            process: RowsMissing, Room, NewBlock, Damaged … ReloadDone, or Stopped and its end
node: Granted          (after each Room)
"""

from typing import Any

import msgspec

from server.ids import Incarnation, NodeId


class ReloadBegin(msgspec.Struct, frozen=True):
    """The first line to the process. `settings`: the node's, whole; `directory`: of its columns; `tables`: those to
    reload."""

    settings: Any
    directory: str
    node: NodeId
    incarnation: Incarnation
    tables: list[str]


class Granted(msgspec.Struct, frozen=True):
    """Whether there is room for the block that the process has asked for."""

    granted: bool


class RowsMissing(msgspec.Struct, frozen=True, tag="missing"):
    """Rows that are still missing of a table."""

    table: str
    rows: int


class Room(msgspec.Struct, frozen=True, tag="room"):
    """The process wants to write a block of so many bytes."""

    table: str
    bytes: int


class NewBlock(msgspec.Struct, frozen=True, tag="block"):
    """A block that was granted, about to get its name: `rows` rows, the latest at `until_ms`, Unix ms."""

    table: str
    name: str
    bytes: int
    rows: int
    until_ms: int


class Damaged(msgspec.Struct, frozen=True, tag="damaged"):
    """Events of a log that cannot be read."""

    log: str
    events: int
    why: str


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """The process cannot go on, and ends: the store is away, or the memory is full."""

    why: str


class ReloadDone(msgspec.Struct, frozen=True, tag="done"):
    """Nothing is missing any more that could be had of any table. `seconds`: since the process began to read."""

    rows: int
    seconds: float


Told = RowsMissing | Room | NewBlock | Damaged | Stopped | ReloadDone
read_told = msgspec.json.Decoder(Told).decode
read_begin = msgspec.json.Decoder(ReloadBegin).decode
read_granted = msgspec.json.Decoder(Granted).decode


def line(message: msgspec.Struct) -> bytes:
    """A message as it is sent."""
    return msgspec.json.encode(message) + b"\n"
