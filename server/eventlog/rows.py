"""Segments of format version 1, which earlier versions have written: read for ever, written no more. Pure.

The header goes on, after the hashes, with stored length, raw length and CRC-32 of each part. The parts are one
Zstandard frame, flushed after each: the keyframe, each entry (its `time_ms` in 8 bytes, big-endian, and its data), and
the end of the frame.
"""

from typing import Final

import zstandard

from server.errors import Corrupt
from server.eventlog.entry import Entry
from server.eventlog.framing import HeaderReader, checked_parts

MAX_RAW_BYTES: Final = 64 * 1024 * 1024
"""Bound on all parts of a segment together, decompressed."""
_MAX_WINDOW_BYTES: Final = 8 * 1024 * 1024
_TIME_BYTES: Final = 8


def read_parts(data: bytes, header: HeaderReader, name: str, start: int, count: int) -> tuple[bytes, list[Entry]]:
    """The keyframe and the entries. Raises `Corrupt` naming the part at fault."""
    sizes: list[int] = []
    parts: list[tuple[int, bytes]] = []
    for _ in range(count + 2):
        stored_bytes, raw_bytes, checksum = header.number(), header.number(), header.take(4)
        parts.append((stored_bytes, checksum))
        sizes.append(raw_bytes)
    header.finish()
    names = ["keyframe", *(f"event {start + place}" for place in range(count)), "end"]
    stored = checked_parts(data, header.end + 4, parts, names, name)
    keyframe, *raws, _ = _decompress(stored, sizes, names, name)
    return keyframe, [read_entry(start + place, raw, name) for place, raw in enumerate(raws)]


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
                raw = read_bytes(reader, size)
                if len(raw) != size:
                    raise Corrupt(f"{name}: {part_name}: holds {len(raw)} bytes instead of {size}")
                out.append(raw)
            if reader.read(1):
                raise Corrupt(f"{name}: end: more data than the header says")
    except zstandard.ZstdError as error:
        raise Corrupt(f"{name}: {part_name}: {error}") from None
    return out


def read_bytes(reader: zstandard.ZstdDecompressionReader, size: int) -> bytes:
    """`size` bytes, or fewer at the end."""
    raw = b""
    while len(raw) < size and (more := reader.read(min(size - len(raw), 1024 * 1024))):
        raw += more
    return raw


def read_entry(seq: int, raw: bytes, name: str) -> Entry:
    """An entry as an open chunk of either version has it, and a segment of version 1."""
    if len(raw) < _TIME_BYTES:
        raise Corrupt(f"{name}: event {seq}: too short")
    return Entry(seq, int.from_bytes(raw[:_TIME_BYTES], "big"), raw[_TIME_BYTES:])
