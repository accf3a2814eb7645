"""Segments as earlier versions have written them (format version 1), for tests of reading them."""

from binascii import crc32
from collections.abc import Sequence

import zstandard

from server import states
from server.eventlog.entry import Entry, next_head
from server.eventlog.framing import digest_of, put

_LEVEL = 6


def seal(entries: Sequence[Entry], head_before: bytes, state: object, end_hash: bytes | None = None) -> bytes:
    keyframe = state if isinstance(state, bytes) else states.encode_canonical(state)
    raws = [entry.time_ms.to_bytes(8, "big") + entry.data for entry in entries]
    head_after = head_before
    for entry in entries:
        head_after = next_head(head_after, entry)
    header = bytearray()
    for number in (entries[0].seq, len(entries), entries[0].time_ms, entries[-1].time_ms):
        put(header, number)
    header.append(0 if end_hash is None else 1)
    for digest in (head_before, head_after, digest_of(keyframe), end_hash or b""):
        header.append(len(digest))
        header += digest
    raw_parts = [keyframe, *raws, b""]
    parts = compress(raw_parts)
    for part, raw in zip(parts, raw_parts, strict=True):
        put(header, len(part))
        put(header, len(raw))
        header += crc32(part).to_bytes(4, "big")
    return framed(b"GSeg", bytes(header), b"".join(parts), version=1)


def compress(raw_parts: Sequence[bytes]) -> list[bytes]:
    """A Zstandard frame, cut so that part i holds the compressed bytes of raw part i."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False).compressobj()
    parts = [compressor.compress(raw) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for raw in raw_parts[:-1]]
    return [*parts, compressor.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)]


def framed(magic: bytes, header: bytes, rest: bytes = b"", version: int = 1) -> bytes:
    """A chunk whose header checksum is right whatever it says."""
    front = magic + bytes([version]) + len(header).to_bytes(4, "big") + header
    return front + crc32(front).to_bytes(4, "big") + rest
