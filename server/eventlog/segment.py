"""The bytes of an event log's chunks: open ones and sealed segments. Pure.

Both are framed the same way (`server/eventlog/framing.py`), and every byte is under exactly one checksum, so that a
damaged byte is named by where it is: the header, one event of an open chunk, the keyframe or the events of a segment.

    open    version 1   header: first_seq, count, then for each entry: raw length, CRC-32
                        parts: the entries as they are (`time_ms` in 8 bytes, big-endian, and data)
    sealed  version 2   header: first_seq, count, first and last time_ms, flags, head before, head after,
                        keyframe hash, end hash, marks, then for each part: raw length, stored length, CRC-32
                        parts: the keyframe (the state before `first_seq`, canonical msgpack) and the
                        entries as columns (`server/eventlog/columns.py`), each compressed
            version 1   `server/eventlog/rows.py`

A part begins with a byte that says how it is compressed: LZMA where it is small, which is what most are, Zstandard
where its time would be felt. *Marks* are the first two bytes of the running hash after every sixteenth entry, so that
where the chain does not fit its events one knows where it breaks. Decoding hostile bytes takes memory
within the bounds below, and raises `Corrupt` for all that is not as it should be.
"""

import lzma
from collections.abc import Generator, Sequence
from typing import Any, Final, TypeVar

import msgspec
import zstandard

from server import states
from server.errors import Corrupt
from server.eventlog import columns, rows
from server.eventlog.entry import HEAD_BYTES, Entry, next_head
from server.eventlog.framing import (
    HeaderReader,
    Truncated,
    assemble,
    checked_parts,
    digest_of,
    put,
    put_part,
    read_header,
)

T = TypeVar("T")
MAX_ENTRIES: Final = 131_072
MAX_RAW_BYTES: Final = rows.MAX_RAW_BYTES
"""Bound on a part of a segment, decompressed."""

_OPEN: Final = b"GLog"
_SEALED: Final = b"GSeg"
_OPEN_VERSION: Final = 1
_ROWS_VERSION: Final = 1
VERSION: Final = 2
_LEVEL: Final = 6
_MAX_WINDOW_BYTES: Final = 8 * 1024 * 1024
_TIME_BYTES: Final = 8
_STEP_BYTES: Final = 64 * 1024
"""Bytes that are compressed at a time."""
_STEP_ENTRIES: Final = 256
"""Entries whose hashes are computed at a time."""
_HAS_END: Final = 1
MARK_EVERY: Final = 16
MARK_BYTES: Final = 2
_ZSTANDARD: Final = 0
_LZMA: Final = 1
_LZMA_BYTES: Final = 128 * 1024
"""The size up to which a part is compressed with LZMA."""
_FILTERS: Final[list[dict[str, Any]]] = [
    {"id": lzma.FILTER_LZMA1, "preset": 6, "lc": 0, "lp": 0, "pb": 0, "dict_size": _LZMA_BYTES}
]


class Segment(msgspec.Struct, frozen=True):
    """A decoded chunk. An open one has no keyframe, hashes or heads (None)."""

    sealed: bool
    first_seq: int
    entries: list[Entry]
    keyframe: bytes | None = None
    """Canonical msgpack of the state before `first_seq`."""
    keyframe_hash: bytes | None = None
    head_before: bytes | None = None
    head_after: bytes | None = None
    end_hash: bytes | None = None
    """The hash of the state after the last entry, where the log is finished with it."""

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.entries) - 1


class Span(msgspec.Struct, frozen=True):
    """Numbers and clocks of a segment's first and last event, as its header says."""

    first_seq: int
    last_seq: int
    first_ms: int
    last_ms: int


def encode_open(entries: Sequence[Entry]) -> bytes:
    """An open chunk of one or more entries that follow each other. Raises `ValueError` if they
    do not, or are over the bounds."""
    _check(entries)
    raws = [entry.time_ms.to_bytes(_TIME_BYTES, "big") + entry.data for entry in entries]
    header = bytearray()
    put(header, entries[0].seq)
    put(header, len(entries))
    for raw in raws:
        put_part(header, raw)
    return assemble(_OPEN, _OPEN_VERSION, header, raws)


def seal(
    entries: Sequence[Entry], head_before: bytes, state: msgspec.Struct | bytes, end_hash: bytes | None = None
) -> bytes:
    """A sealed segment. `state` is the one before the first entry, or its canonical bytes; `head_before` is the
    running hash there; `end_hash` is `entry.state_hash` of the state after the last, if the log is
    finished with it. Raises `ValueError` as `encode_open`."""
    steps = sealing(entries, head_before, state, end_hash)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: bytes = done.value
            return result


def sealing(
    entries: Sequence[Entry], head_before: bytes, state: msgspec.Struct | bytes, end_hash: bytes | None = None
) -> Generator[None, None, bytes]:
    """The work of `seal` in steps of a millisecond or two each, for a loop that has other things to do."""
    _check(entries)
    keyframe = state if isinstance(state, bytes) else states.encode_canonical(state)
    head_after, marks = head_before, bytearray()
    for place, entry in enumerate(entries, 1):
        head_after = next_head(head_after, entry)
        if place % MARK_EVERY == 0:
            marks += head_after[:MARK_BYTES]
        if place % _STEP_ENTRIES == 0:
            yield
    packed = yield from columns.packing(entries, _STEP_ENTRIES)
    header = bytearray()
    for number in (entries[0].seq, len(entries), entries[0].time_ms, entries[-1].time_ms):
        put(header, number)
    header.append(0 if end_hash is None else _HAS_END)
    for digest in (head_before, head_after, digest_of(keyframe), end_hash or b""):
        header.append(len(digest))
        header += digest
    header += marks
    parts: list[bytes] = []
    for raw in (keyframe, packed):
        parts.append((yield from _compressing(raw)))
        put(header, len(raw))
        put_part(header, parts[-1])
        yield
    return assemble(_SEALED, VERSION, header, parts)


def decode(data: bytes, first_seq: int | None = None, *, chained: bool = True) -> Segment:
    """The chunk in `data`, every check done; where not `chained` only those that find damage: checksums, and no hash
    chain, which takes longer than all else. `first_seq` is where it should begin, if known.
    Raises `Corrupt`, naming the chunk and the event (or header, keyframe, events, end) at fault."""
    sealed = data[:4] == _SEALED
    name = _name(data, first_seq)
    header = read_header(data, name, (_OPEN, _SEALED), _versions(sealed))
    try:
        start, count = _place(header, first_seq)
        name = f"{name.partition(' at ')[0]} at event {start}"
        if sealed:
            return _decode_sealed(data, header, name, start, count, chained)
        return _decode_open(data, header, name, start, count)
    except Truncated:
        raise Corrupt(f"{name}: header: ends too early") from None
    except Corrupt as error:
        if error.message.startswith(name):
            raise
        raise Corrupt(f"{name}: header: {error.message}") from None


def span(data: bytes) -> Span:
    """The place of the segment in `data`, by its header alone: nothing is decompressed. Raises `Corrupt`."""
    name = _name(data, None)
    header = read_header(data, name, (_SEALED,), _versions(sealed=True))
    try:
        start, count = _place(header, None)
        return Span(start, start + count - 1, header.number(), header.number())
    except Truncated:
        raise Corrupt(f"{name}: header: ends too early") from None


# ---- encoding -------------------------------------------------------------------------------


def _check(entries: Sequence[Entry]) -> None:
    if not 1 <= len(entries) <= MAX_ENTRIES:
        raise ValueError(f"a chunk holds 1 to {MAX_ENTRIES} entries, not {len(entries)}")
    first_seq = entries[0].seq
    if any(entry.seq != first_seq + place for place, entry in enumerate(entries)):
        raise ValueError("entries of a chunk follow each other without a gap")


def _compressing(raw: bytes) -> Generator[None, None, bytes]:
    """A part as it is stored."""
    if len(raw) > MAX_RAW_BYTES:
        raise ValueError(f"a part of a segment holds at most {MAX_RAW_BYTES} bytes, not {len(raw)}")
    if len(raw) <= _LZMA_BYTES:
        return bytes([_LZMA]) + lzma.compress(raw, format=lzma.FORMAT_RAW, filters=_FILTERS)
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False).compressobj()
    part = bytearray([_ZSTANDARD])
    for begin in range(0, len(raw), _STEP_BYTES):
        part += compressor.compress(raw[begin : begin + _STEP_BYTES])
        yield
    return bytes(part) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


# ---- decoding -------------------------------------------------------------------------------


def _name(data: bytes, first_seq: int | None) -> str:
    what = "open chunk" if data[:4] == _OPEN else "segment"
    return f"{what} at event {'?' if first_seq is None else first_seq}"


def _versions(sealed: bool) -> tuple[int, ...]:
    return (_ROWS_VERSION, VERSION) if sealed else (_OPEN_VERSION,)


def _place(header: HeaderReader, first_seq: int | None) -> tuple[int, int]:
    start, count = header.number(), header.number()
    if not 1 <= count <= MAX_ENTRIES or start < 1 or (first_seq is not None and start != first_seq):
        raise Corrupt(f"says it holds {count} events from {start}")
    return start, count


def _decode_open(data: bytes, header: HeaderReader, name: str, start: int, count: int) -> Segment:
    parts = [(header.number(), header.take(4)) for _ in range(count)]
    header.finish()
    raws = checked_parts(data, header.end + 4, parts, [f"event {start + place}" for place in range(count)], name)
    return Segment(False, start, [rows.read_entry(start + place, raw, name) for place, raw in enumerate(raws)])


def _decode_sealed(data: bytes, header: HeaderReader, name: str, start: int, count: int, chained: bool) -> Segment:
    first_ms, last_ms, flags = header.number(), header.number(), header.take(1)[0]
    head_before, head_after = header.digest(0, HEAD_BYTES), header.digest(HEAD_BYTES)
    keyframe_hash = header.digest(HEAD_BYTES)
    end_hash = header.digest(HEAD_BYTES if flags & _HAS_END else 0)
    marks: bytes | None = None
    if data[4] == _ROWS_VERSION:
        keyframe, entries = rows.read_parts(data, header, name, start, count)
    else:
        marks = header.take(count // MARK_EVERY * MARK_BYTES)
        keyframe, entries = _read_columns(data, header, name, start, count)
    if digest_of(keyframe) != keyframe_hash:
        raise Corrupt(f"{name}: keyframe: hash does not match")
    if (entries[0].time_ms, entries[-1].time_ms) != (first_ms, last_ms):
        raise Corrupt(f"{name}: header: times do not match its events")
    if chained:
        _check_chain(name, entries, head_before, head_after, marks)
    return Segment(
        True, start, entries, keyframe, keyframe_hash, head_before, head_after, end_hash if flags & _HAS_END else None
    )


def _read_columns(data: bytes, header: HeaderReader, name: str, start: int, count: int) -> tuple[bytes, list[Entry]]:
    events = f"events {start} to {start + count - 1}"
    names = ["keyframe", events]
    sizes: list[int] = []
    parts: list[tuple[int, bytes]] = []
    for _ in names:
        sizes.append(header.number())
        parts.append((header.number(), header.take(4)))
    header.finish()
    if max(sizes) > MAX_RAW_BYTES:
        raise Corrupt(f"says it holds {max(sizes)} bytes")
    stored = checked_parts(data, header.end + 4, parts, names, name)
    keyframe, packed = (
        _decompressed(part, size, f"{name}: {part_name}")
        for part, size, part_name in zip(stored, sizes, names, strict=True)
    )
    try:
        return keyframe, columns.unpack(packed, start, count)
    except Corrupt as error:
        raise Corrupt(f"{name}: {events}: {error.message}") from None


def _decompressed(part: bytes, size: int, name: str) -> bytes:
    """The raw part, never more than `size` bytes."""
    try:
        if part[:1] == bytes([_LZMA]):
            if size > _LZMA_BYTES:
                raise Corrupt(f"{name}: says it holds {size} bytes")
            raw = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS).decompress(part[1:], size + 1)
        elif part[:1] == bytes([_ZSTANDARD]):
            decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
            with decompressor.stream_reader(part[1:]) as reader:
                raw = rows.read_bytes(reader, size + 1)
        else:
            raise Corrupt(f"{name}: compressed in no known way")
    except (zstandard.ZstdError, lzma.LZMAError) as error:
        raise Corrupt(f"{name}: {error}") from None
    if len(raw) != size:
        raise Corrupt(f"{name}: holds {'more' if len(raw) > size else len(raw)} bytes instead of {size}")
    return raw


def _check_chain(name: str, entries: list[Entry], head: bytes, head_after: bytes, marks: bytes | None) -> None:
    """Raises `Corrupt` where the running hash does not come out as stored. `marks` is None in version 1, which does not
    know where it breaks."""
    first = entries[0].seq
    for place, entry in enumerate(entries, 1):
        head = next_head(head, entry)
        if marks is not None and not place % MARK_EVERY:
            begin = (place // MARK_EVERY - 1) * MARK_BYTES
            if head[:MARK_BYTES] != marks[begin : begin + MARK_BYTES]:
                raise Corrupt(f"{name}: the hash chain breaks at events {first} to {entry.seq}")
            first = entry.seq + 1
    if head != head_after:
        if marks is not None:
            first = min(first, entries[-1].seq)
            raise Corrupt(f"{name}: the hash chain breaks at events {first} to {entries[-1].seq}")
        raise Corrupt(f"{name}: header: hash chain does not match its events")
