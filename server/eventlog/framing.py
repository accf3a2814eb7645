"""The frame of a chunk's bytes: header and parts, each under a checksum, decoded within bounds. Pure.

    magic 4 | version 1 | header length 4 | header | CRC-32 of all before 4 | parts …

A header holds varints (LEB128), hashes (one length byte, then 0 or 16 bytes) and the lengths and checksums of the
parts, which are over the stored bytes: nothing is decompressed before they match.
"""

from binascii import crc32
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from server.errors import Corrupt
from server.eventlog.entry import HEAD_BYTES

MAX_CHUNK_BYTES: Final = 64 * 1024 * 1024
_PREFIX_BYTES: Final = 9


class Truncated(Exception):
    """The header ends within a field."""


class HeaderReader:
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
            raise Truncated
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


def read_header(data: bytes, name: str, magics: Sequence[bytes], versions: Sequence[int]) -> HeaderReader:
    """The header, its checksum verified."""
    if data[:4] not in magics or len(data) > MAX_CHUNK_BYTES:
        raise Corrupt(f"{name}: header: not a chunk of an event log")
    length = int.from_bytes(data[5:_PREFIX_BYTES], "big")
    end = _PREFIX_BYTES + length
    if end + 4 > len(data):
        raise Corrupt(f"{name}: header: ends too early")
    if crc32(memoryview(data)[:end]).to_bytes(4, "big") != data[end : end + 4]:
        raise Corrupt(f"{name}: header: checksum does not match")
    if data[4] not in versions:
        newest = max(versions)
        raise Corrupt(f"{name}: header: format version {data[4]}; this program reads versions up to {newest}")
    return HeaderReader(data, _PREFIX_BYTES, end)


def checked_parts(data: bytes, at: int, parts: list[tuple[int, bytes]], names: list[str], name: str) -> list[bytes]:
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


def assemble(magic: bytes, version: int, header: bytearray, parts: Sequence[bytes]) -> bytes:
    """The bytes of a chunk. Raises `ValueError` where they are too many."""
    front = magic + bytes([version]) + len(header).to_bytes(4, "big") + bytes(header)
    data = front + crc32(front).to_bytes(4, "big") + b"".join(parts)
    if len(data) > MAX_CHUNK_BYTES:
        raise ValueError(f"a chunk has at most {MAX_CHUNK_BYTES} bytes, not {len(data)}")
    return data


def put(out: bytearray, number: int) -> None:
    """Add a varint."""
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def put_part(header: bytearray, part: bytes) -> None:
    """Add the length and the checksum of a stored part."""
    put(header, len(part))
    header += crc32(part).to_bytes(4, "big")


def digest_of(data: bytes) -> bytes:
    """BLAKE2b-128, as of a keyframe's bytes."""
    return blake2b(data, digest_size=HEAD_BYTES).digest()
