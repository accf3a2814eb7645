"""Entries of an event log: their layout in bytes and the running hash over them. Pure.

    event, lineage, command --encode_entry--> Entry (stored, hashed, sent) --decode_record--> Record (evolved)

An entry's `data` is the msgpack array `[event, lineage, command]`. This file is the only one that
knows it; an event's own bytes can be taken out without decoding them (`event_bytes`), which is how a
stream is fed.
"""

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from server import states
from server.errors import Corrupt
from server.wire.codec import UNDECODABLE

HEAD_BYTES: Final = 16
MARK_BYTES: Final = 8
NO_HEAD: Final = b""
"""The running hash of a log without entries."""

_encode = msgspec.msgpack.encode
_ARRAY_OF_THREE: Final = b"\x93"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """An entry as it is stored: number, clock of its event in ms, and `data` as the module's head says."""

    seq: int
    time_ms: int
    data: bytes


class Record(msgspec.Struct, frozen=True, array_like=True):
    """An entry as `evolve` sees it. `lineage` and `command` name the client command that caused the event
    (None and 0 where the actor itself did), so that `evolve` can rebuild the map of answers."""

    seq: int
    event: Any
    lineage: str | None = None
    command: int = 0


def encode_entry(record: Record) -> Entry:
    """The entry of `record`, whose event has a `time_ms`."""
    data = _ARRAY_OF_THREE + _encode(record.event) + _encode(record.lineage) + _encode(record.command)
    return Entry(record.seq, record.event.time_ms, data)


def decode_record(entry: Entry, event_type: Any) -> Record:
    """The record in `entry`, its event one of `event_type`. Raises `Corrupt` naming the event."""
    try:
        event, lineage, command = _record_decoder(event_type).decode(entry.data)
    except UNDECODABLE as error:
        raise Corrupt(f"event {entry.seq}: {error}") from None
    return Record(entry.seq, event, lineage, command)


def event_decoder(event_type: Any) -> "Callable[[bytes], Any]":
    """The function that makes a tuple of an entry's data; its first item is the event, one of `event_type`. Raises what
    msgspec raises."""
    decode: Callable[[bytes], Any] = _record_decoder(event_type).decode
    return decode


def event_bytes(entry: Entry) -> msgspec.Raw:
    """The event's own msgpack within `entry`, not decoded."""
    return _raw_decoder.decode(entry.data)[0]


@cache
def _record_decoder(event_type: Any) -> "msgspec.msgpack.Decoder[Any]":
    """The decoder of a kind's entries, made once for each event type."""
    return msgspec.msgpack.Decoder(tuple[event_type, str | None, int])


_raw_decoder = msgspec.msgpack.Decoder(tuple[msgspec.Raw, str | None, int])


def next_head(head: bytes, entry: Entry) -> bytes:
    """The running hash after `entry`: BLAKE2b-128 over the hash before, number, time and bytes, so that
    a hash chain covers order and content of a whole log."""
    digest = blake2b(head, digest_size=HEAD_BYTES)
    digest.update(entry.seq.to_bytes(8, "big") + entry.time_ms.to_bytes(8, "big"))
    digest.update(entry.data)
    return digest.digest()


def mark_of(head: bytes) -> str:
    """The log mark of a running hash, which a client keeps with its cursor: 64 bits, in hexadecimal. Empty for none."""
    return head[:MARK_BYTES].hex()


def state_hash(state: msgspec.Struct) -> bytes:
    """BLAKE2b-128 of a state's canonical msgpack (map keys sorted)."""
    return blake2b(states.encode_canonical(state), digest_size=HEAD_BYTES).digest()
