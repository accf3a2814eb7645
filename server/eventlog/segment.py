"""The bytes of an event log's chunks: open ones and sealed segments. Pure.

Both begin the same way, and every byte is under exactly one checksum, so that a damaged byte is
named by where it is: the header, the keyframe, one event, or the end.

    magic 4 | version 1 | header length 4 | header | CRC-32 of all before 4 | parts …

A header holds varints (LEB128) and hashes (one length byte, then 0 or 16 bytes):

    open      first_seq, count, then for each entry: raw length, CRC-32
    sealed    first_seq, count, first and last time_ms, flags, head before, head after,
              keyframe hash, end hash, then for each part: stored length, raw length, CRC-32

An open chunk's parts are the entries as they are. A segment's parts are one Zstandard frame,
flushed after each: the keyframe (the state before `first_seq`, canonical msgpack), the entries,
and the end of the frame. CRCs are over the stored bytes, and nothing is decompressed before they
match. A raw entry is its `time_ms` (8 bytes, big-endian) and its data. Decoding hostile bytes takes memory
within the bounds below, and raises `Corrupt` for all that is not as it should be.
"""

from binascii import crc32
from collections.abc import Generator, Sequence
from hashlib import blake2b
from typing import Final, TypeVar

import msgspec
import zstandard

from server import states
from server.errors import Corrupt
from server.eventlog.entry import HEAD_BYTES, Entry, next_head

T = TypeVar("T")
MAX_ENTRIES: Final = 131_072
MAX_CHUNK_BYTES: Final = 64 * 1024 * 1024
MAX_RAW_BYTES: Final = 64 * 1024 * 1024
"""Bound on all parts of a segment together, decompressed."""

_OPEN: Final = b"GLog"
_SEALED: Final = b"GSeg"
_VERSION: Final = 1
_LEVEL: Final = 6
_MAX_WINDOW_BYTES: Final = 8 * 1024 * 1024
_PREFIX_BYTES: Final = 9
_TIME_BYTES: Final = 8
_STEP_BYTES: Final = 64 * 1024
_STEP_PARTS: Final = 128
"""Bytes that are compressed at a time, and parts, each of which counts too."""
_HAS_END: Final = 1


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


def encode_open(entries: Sequence[Entry]) -> bytes:
    """An open chunk of one or more entries that follow each other. Raises `ValueError` if they
    do not, or are over the bounds."""
    raws = _raws(entries)
    header = bytearray()
    _put(header, entries[0].seq)
    _put(header, len(entries))
    for raw in raws:
        _put(header, len(raw))
        header += crc32(raw).to_bytes(4, "big")
    return _assemble(_OPEN, header, raws)


def seal(
    entries: Sequence[Entry], head_before: bytes, state: msgspec.Struct | bytes, end_hash: bytes | None = None
) -> bytes:
    """A sealed segment. `state` is the one before the first entry, or its canonical bytes; `head_before` is the
    running hash there; `end_hash` is `record.state_hash` of the state after the last, if the log is
    finished with it. Raises `ValueError` as `encode_open`."""
    return _at_once(sealing(entries, head_before, state, end_hash))


def sealing(
    entries: Sequence[Entry], head_before: bytes, state: msgspec.Struct | bytes, end_hash: bytes | None = None
) -> Generator[None, None, bytes]:
    """The work of `seal` in steps of a millisecond or two each, for a loop that has other things to do."""
    raws = _raws(entries)
    keyframe = state if isinstance(state, bytes) else states.encode_canonical(state)
    head_after = head_before
    for entry in entries:
        head_after = next_head(head_after, entry)
    header = bytearray()
    for number in (entries[0].seq, len(entries), entries[0].time_ms, entries[-1].time_ms):
        _put(header, number)
    header.append(0 if end_hash is None else _HAS_END)
    for digest in (head_before, head_after, _hash(keyframe), end_hash or b""):
        header.append(len(digest))
        header += digest
    raw_parts = [keyframe, *raws, b""]
    parts = yield from _compressing(raw_parts)
    for part, raw in zip(parts, raw_parts, strict=True):
        _put(header, len(part))
        _put(header, len(raw))
        header += crc32(part).to_bytes(4, "big")
    return _assemble(_SEALED, header, parts)


def decode(data: bytes, first_seq: int | None = None) -> Segment:
    """The chunk in `data`, every check done. `first_seq` is where it should begin, if known.
    Raises `Corrupt`, naming the chunk and the event (or header, keyframe, end) at fault."""
    sealed = data[:4] == _SEALED
    name = "segment" if sealed or data[:4] != _OPEN else "open chunk"
    name = f"{name} at event {'?' if first_seq is None else first_seq}"
    header = _header(data, name)
    try:
        start, count = header.number(), header.number()
        if not 1 <= count <= MAX_ENTRIES or start < 1 or (first_seq is not None and start != first_seq):
            raise Corrupt(f"says it holds {count} events from {start}")
        name = f"{name.partition(' at ')[0]} at event {start}"
        if sealed:
            return _decode_sealed(data, header, name, start, count)
        return _decode_open(data, header, name, start, count)
    except _Truncated:
        raise Corrupt(f"{name}: header: ends too early") from None
    except Corrupt as error:
        if error.message.startswith(name):
            raise
        raise Corrupt(f"{name}: header: {error.message}") from None


# ---- encoding -------------------------------------------------------------------------------


def _raws(entries: Sequence[Entry]) -> list[bytes]:
    if not 1 <= len(entries) <= MAX_ENTRIES:
        raise ValueError(f"a chunk holds 1 to {MAX_ENTRIES} entries, not {len(entries)}")
    first_seq = entries[0].seq
    if any(entry.seq != first_seq + place for place, entry in enumerate(entries)):
        raise ValueError("entries of a chunk follow each other without a gap")
    return [entry.time_ms.to_bytes(_TIME_BYTES, "big") + entry.data for entry in entries]


def _at_once(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


def _compress(raw_parts: Sequence[bytes]) -> list[bytes]:
    return _at_once(_compressing(raw_parts))


def _compressing(raw_parts: Sequence[bytes]) -> Generator[None, None, list[bytes]]:
    """A Zstandard frame, cut so that part i holds the compressed bytes of raw part i."""
    total = sum(map(len, raw_parts))
    if total > MAX_RAW_BYTES:
        raise ValueError(f"a segment holds at most {MAX_RAW_BYTES} bytes, not {total}")
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False).compressobj()
    parts: list[bytes] = []
    done = 0
    for raw in raw_parts[:-1]:
        part = bytearray()
        for begin in range(0, len(raw), _STEP_BYTES):
            part += compressor.compress(raw[begin : begin + _STEP_BYTES])
            done += min(len(raw), _STEP_BYTES) + _STEP_BYTES // _STEP_PARTS
            if done >= _STEP_BYTES:
                done = 0
                yield
        parts.append(bytes(part) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    parts.append(compressor.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
    return parts


def _assemble(magic: bytes, header: bytearray, parts: Sequence[bytes]) -> bytes:
    front = magic + bytes([_VERSION]) + len(header).to_bytes(4, "big") + bytes(header)
    data = front + crc32(front).to_bytes(4, "big") + b"".join(parts)
    if len(data) > MAX_CHUNK_BYTES:
        raise ValueError(f"a chunk has at most {MAX_CHUNK_BYTES} bytes, not {len(data)}")
    return data


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=HEAD_BYTES).digest()


# ---- decoding -------------------------------------------------------------------------------


class _Truncated(Exception):
    """The header ends within a field."""


class _Reader:
    """A cursor over a header whose checksum is already good."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise Corrupt("a number is too long")

    def take(self, count: int) -> bytes:
        if self.at + count > self.end:
            raise _Truncated
        self.at += count
        return self.data[self.at - count : self.at]

    def digest(self, *lengths: int) -> bytes:
        length = self.take(1)[0]
        if length not in lengths:
            raise Corrupt(f"a hash has {length} bytes")
        return self.take(length)

    def finish(self) -> None:
        if self.at != self.end:
            raise Corrupt(f"has {self.end - self.at} bytes too many")


def _header(data: bytes, name: str) -> _Reader:
    """The header, its checksum verified."""
    if data[:4] not in (_OPEN, _SEALED) or len(data) > MAX_CHUNK_BYTES:
        raise Corrupt(f"{name}: header: not a chunk of an event log")
    length = int.from_bytes(data[5:_PREFIX_BYTES], "big")
    end = _PREFIX_BYTES + length
    if end + 4 > len(data):
        raise Corrupt(f"{name}: header: ends too early")
    if crc32(memoryview(data)[:end]).to_bytes(4, "big") != data[end : end + 4]:
        raise Corrupt(f"{name}: header: checksum does not match")
    if data[4] != _VERSION:
        raise Corrupt(f"{name}: header: format version {data[4]} is not {_VERSION}")
    return _Reader(data, _PREFIX_BYTES, end)


def _decode_open(data: bytes, header: _Reader, name: str, start: int, count: int) -> Segment:
    parts = [(header.number(), header.take(4)) for _ in range(count)]
    header.finish()
    raws = _checked(data, header.end + 4, parts, [f"event {start + place}" for place in range(count)], name)
    return Segment(False, start, [_entry(start + place, raw, name) for place, raw in enumerate(raws)])


def _decode_sealed(data: bytes, header: _Reader, name: str, start: int, count: int) -> Segment:
    first_ms, last_ms, flags = header.number(), header.number(), header.take(1)[0]
    head_before, head_after = header.digest(0, HEAD_BYTES), header.digest(HEAD_BYTES)
    keyframe_hash = header.digest(HEAD_BYTES)
    end_hash = header.digest(HEAD_BYTES if flags & _HAS_END else 0)
    sizes: list[int] = []
    parts: list[tuple[int, bytes]] = []
    for _ in range(count + 2):
        stored_bytes, raw_bytes, checksum = header.number(), header.number(), header.take(4)
        parts.append((stored_bytes, checksum))
        sizes.append(raw_bytes)
    header.finish()
    names = ["keyframe", *(f"event {start + place}" for place in range(count)), "end"]
    stored = _checked(data, header.end + 4, parts, names, name)
    keyframe, *raws, _ = _decompress(stored, sizes, names, name)
    entries = [_entry(start + place, raw, name) for place, raw in enumerate(raws)]
    if _hash(keyframe) != keyframe_hash:
        raise Corrupt(f"{name}: keyframe: hash does not match")
    if (entries[0].time_ms, entries[-1].time_ms) != (first_ms, last_ms):
        raise Corrupt(f"{name}: header: times do not match its events")
    head = head_before
    for entry in entries:
        head = next_head(head, entry)
    if head != head_after:
        raise Corrupt(f"{name}: header: hash chain does not match its events")
    return Segment(
        True, start, entries, keyframe, keyframe_hash, head_before, head_after, end_hash if flags & _HAS_END else None
    )


def _checked(data: bytes, at: int, parts: list[tuple[int, bytes]], names: list[str], name: str) -> list[bytes]:
    """The parts as stored, each one's checksum verified."""
    out: list[bytes] = []
    for (length, checksum), part_name in zip(parts, names, strict=True):
        part = data[at : at + length]
        if len(part) < length:
            raise Corrupt(f"{name}: {part_name}: ends too early")
        if crc32(part).to_bytes(4, "big") != checksum:
            raise Corrupt(f"{name}: {part_name}: checksum does not match")
        out.append(part)
        at += length
    if at != len(data):
        raise Corrupt(f"{name}: end: {len(data) - at} bytes too many")
    return out


def _decompress(stored: list[bytes], sizes: list[int], names: list[str], name: str) -> list[bytes]:
    """The raw parts, never more than their sizes say."""
    if sum(sizes) > MAX_RAW_BYTES:
        raise Corrupt(f"{name}: header: says it holds {sum(sizes)} bytes")
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    out: list[bytes] = []
    part_name = names[0]
    try:
        with decompressor.stream_reader(b"".join(stored)) as reader:
            for size, part_name in zip(sizes, names, strict=True):
                raw = _read(reader, size)
                if len(raw) != size:
                    raise Corrupt(f"{name}: {part_name}: holds {len(raw)} bytes instead of {size}")
                out.append(raw)
            if reader.read(1):
                raise Corrupt(f"{name}: end: more data than the header says")
    except zstandard.ZstdError as error:
        raise Corrupt(f"{name}: {part_name}: {error}") from None
    return out


def _read(reader: zstandard.ZstdDecompressionReader, size: int) -> bytes:
    """`size` bytes, or fewer at the end."""
    raw = b""
    while len(raw) < size and (more := reader.read(min(size - len(raw), 1024 * 1024))):
        raw += more
    return raw


def _entry(seq: int, raw: bytes, name: str) -> Entry:
    if len(raw) < _TIME_BYTES:
        raise Corrupt(f"{name}: event {seq}: too short")
    return Entry(seq, int.from_bytes(raw[:_TIME_BYTES], "big"), raw[_TIME_BYTES:])
