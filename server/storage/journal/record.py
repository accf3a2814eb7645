"""How one change lies in a journal, and how a run of them is read back. Pure.

    record  = magic (4) | length (u32) | sequence (u64) | XXH3-64 (u64) | payload (length bytes)
    payload = msgpack of `JournalRecord`: [id, epoch, version, state]

Numbers are little-endian. Sequence numbers of a run rise by one from 1. The checksum is seeded
with the run (cluster, node, incarnation) and the sequence number, so that a record that lies at
a wrong place, or is of another run, fails its check as one with a flipped bit does.

Reading tells three things apart. A record that was torn while it was written is the last one and
was never acknowledged: it is left out silently. Records of a lower sequence number behind the
end are what a reused file held before: they are the end. Anything else that is missing between
records that are there, or up to a number that is known to have been acknowledged, is *damage*:
it is named, and reading goes on behind it.
"""

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_intdigest

from server import states
from server.ids import ActorId, NodeAddress
from server.storage.journal.ports import JournalRecord, Recovered
from server.wire.codec import UNDECODABLE

MAGIC: Final = 0x4A1D_C0D3
HEADER: Final = Struct("<IIQQ")
HEADER_BYTES: Final = HEADER.size
MAX_SEQUENCE: Final = 2**62
SCAN_FACTOR: Final = 4
"""Behind damage, candidates are checked up to this many times the bytes of the file."""
_MAGIC_BYTES: Final = MAGIC.to_bytes(4, "little")

digest: Final[Callable[..., int]] = xxh3_64_intdigest
"""`digest(payload, seed + sequence)` is a record's checksum."""
encode_payload: Final[Callable[[tuple[ActorId, int, int, Any]], bytes]] = states.encode
"""The payload of (id, epoch, version, state)."""
_decode: Final = msgspec.msgpack.Decoder(JournalRecord).decode


def run_seed(cluster: str, owner: NodeAddress) -> int:
    """The seed of a run's checksums, so that a record of another run never passes; below 2**62, so that adding a
    sequence number stays within 64 bits."""
    return xxh3_64_intdigest(f"garrison journal {cluster} {owner}".encode()) >> 2


def frame(payload: bytes, sequence: int, seed: int) -> bytes:
    """A whole record."""
    return HEADER.pack(MAGIC, len(payload), sequence, digest(payload, seed + sequence)) + payload


class Part(msgspec.Struct, frozen=True):
    """A file or stream entry of a run: records lie in `data` from `begin` on. Numbers up to
    `after` are not of it."""

    name: str
    data: bytes
    begin: int = 0
    after: int = 0


class Read(msgspec.Struct):
    """Contents of a part: `records` as (sequence, payload), rising; `stops` maps the sequence
    number before bytes that are no record to their offset, the end of the part included."""

    records: list[tuple[int, bytes]]
    stops: dict[int, int]


def read_part(part: Part, seed: int) -> Read:
    """Every valid record of `part` up to where sequence numbers fall."""
    data, offset, budget = part.data, part.begin, SCAN_FACTOR * len(part.data)
    records: list[tuple[int, bytes]] = []
    stops: dict[int, int] = {}
    last = part.after
    while True:
        payload, sequence = _record_at(data, offset, seed, last)
        if payload is not None:
            records.append((sequence, payload))
            last = sequence
            offset += HEADER_BYTES + len(payload)
            continue
        stops.setdefault(last, offset)
        found, budget = _next_record(data, offset + 1, seed, last, budget)
        if found < 0:
            return Read(records, stops)
        offset = found


def _record_at(data: bytes, offset: int, seed: int, last: int) -> tuple[bytes | None, int]:
    """The payload and number of the valid record at `offset` whose number is above `last`."""
    begin = offset + HEADER_BYTES
    if begin > len(data):
        return None, 0
    magic, length, sequence, checksum = HEADER.unpack_from(data, offset)
    if magic != MAGIC or not last < sequence < MAX_SEQUENCE or begin + length > len(data):
        return None, 0
    payload = data[begin : begin + length]
    return (payload, sequence) if digest(payload, seed + sequence) == checksum else (None, 0)


def _next_record(data: bytes, offset: int, seed: int, last: int, budget: int) -> tuple[int, int]:
    """The offset of the next valid record at or behind `offset`, -1 if there is none, and what is
    left of the budget of bytes to check."""
    while budget > 0 and (offset := data.find(_MAGIC_BYTES, offset)) >= 0:
        payload, _ = _record_at(data, offset, seed, last)
        if payload is not None:
            return offset, budget
        if offset + HEADER_BYTES <= len(data):
            _, length, sequence, _ = HEADER.unpack_from(data, offset)
            if sequence > last and offset + HEADER_BYTES + length <= len(data):
                budget -= length  # its bytes were hashed
        budget -= HEADER_BYTES
        offset += 1
    return -1, budget


def read_run(parts: Iterable[Part], seed: int, low: int = 0, high: int = 0) -> Recovered:
    """Read the parts of a run, in any order. Records below `low` are known to be of no more
    use (0: unknown, then what precedes the first record is not missed); all up to `high` were
    acknowledged (0: unknown, then nothing behind the last record is missed)."""
    by_number: dict[int, bytes] = {}
    stops: dict[int, str] = {}
    for part in parts:
        read = read_part(part, seed)
        by_number.update(read.records)
        for before, offset in read.stops.items():
            stops.setdefault(before, f"{part.name}: bytes from {offset} on fail their check, ")
    numbers = sorted(number for number in by_number if number >= low)
    damage = [f"{stops.get(a - 1, '')}{_records(a, b)} missing" for a, b in _gaps(numbers, low, high)]
    newest, undecodable = newest_of([(number, by_number[number]) for number in numbers])
    return Recovered(newest, damage + undecodable)


def _gaps(numbers: Sequence[int], low: int, high: int) -> list[tuple[int, int]]:
    """Ranges (first, last) that `numbers`, rising, lack between `low` and `high`."""
    gaps: list[tuple[int, int]] = []
    expected = low or (numbers[0] if numbers else high + 1)
    for number in numbers:
        if number > expected:
            gaps.append((expected, number - 1))
        expected = number + 1
    if expected <= high:
        gaps.append((expected, high))
    return gaps


def _records(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"


def newest_of(records: Iterable[tuple[int, bytes]]) -> tuple[dict[ActorId, JournalRecord], list[str]]:
    """For each entity its newest record by (epoch, version), a later one of the same pair winning;
    and a sentence for each payload that is no record. `records` are in order of their numbers."""
    newest: dict[ActorId, JournalRecord] = {}
    damage: list[str] = []
    for number, payload in records:
        try:
            record = _decode(payload)
        except UNDECODABLE as error:
            damage.append(f"record {number} is no journal record: {error}")
            continue
        other = newest.get(record.id)
        if other is None or (record.epoch, record.version) >= (other.epoch, other.version):
            newest[record.id] = record
    return newest, damage
