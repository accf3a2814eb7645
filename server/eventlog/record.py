"""One entry of an event log: what `evolve` sees, live and in replay. Pure."""

from hashlib import blake2b
from typing import Any, Final

import msgspec

HEAD_BYTES: Final = 16
NO_HEAD: Final = b""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """An entry as it is stored: `data` is the msgpack array `[event, lineage, command]`."""

    seq: int
    time_ms: int
    data: bytes


class Record(msgspec.Struct, frozen=True, array_like=True):
    """An entry decoded. `lineage` and `command` name the client command that caused the event
    (None and 0 where the actor itself did), so that `evolve` can rebuild the map of answers."""

    seq: int
    event: Any
    lineage: str | None = None
    command: int = 0


def next_head(head: bytes, entry: Entry) -> bytes:
    """The running hash after `entry`: BLAKE2b-128 over the hash before, number, time, bytes."""
    digest = blake2b(head, digest_size=HEAD_BYTES)
    digest.update(entry.seq.to_bytes(8, "big") + entry.time_ms.to_bytes(8, "big"))
    digest.update(entry.data)
    return digest.digest()


def state_hash(state: msgspec.Struct) -> bytes:
    """BLAKE2b-128 of a state's canonical msgpack (map keys sorted)."""
    encoded = msgspec.msgpack.encode(state, order="deterministic")
    return blake2b(encoded, digest_size=HEAD_BYTES).digest()
