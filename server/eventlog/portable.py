"""The portable file of an event log, `.garrison`: it verifies anywhere without a database. Pure, over a stream.

    magic 8 | version 1 | record … | record

    record   type 1 | length 4 | bytes | CRC-32 of all three 4
    H        first: msgpack of `PortableHeader`
    S        a sealed segment, in order from event 1 on, as a store has it
    E        last: msgpack of `PortableEnd`, with the running hash of the log and a hash of the whole file before it

A reader checks everything before it gives anything: checksums, the hash of the file, that segments follow each other,
and the hash chain through all of them to the head in the end record. Hostile bytes take memory within the bounds below.
"""

from binascii import crc32
from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, BinaryIO, Final, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from server.errors import BadInput, Corrupt
from server.eventlog import segment
from server.eventlog.entry import HEAD_BYTES, state_hash
from server.eventlog.fold import LoggedKind, S, chain, load, verify
from server.eventlog.framing import MAX_CHUNK_BYTES
from server.eventlog.ports import Chunk, Redaction, StoredLog, WholeLog
from server.ids import KEY_PATTERN, KIND_PATTERN, whole
from server.wire.codec import UNDECODABLE

T = TypeVar("T")
MAGIC: Final = b"\x89GRL\r\n\x1a\n"
"""The first bytes, chosen as PNG's are: a transfer that changes line ends, or cuts the eighth bit, damages them."""
VERSION: Final = 1
MAX_FILE_BYTES: Final = 512 * 1024 * 1024
MAX_HEADER_BYTES: Final = 256 * 1024
MAX_METADATA: Final = 64
MAX_REDACTIONS: Final = 4_096
_HEADER, _SEGMENT, _END = b"H", b"S", b"E"
_FRAME_BYTES: Final = 5
_encode = msgspec.msgpack.encode


class PortableHeader(msgspec.Struct, array_like=True, frozen=True):
    """The log's actor, and what its application says of it: `rules` is the version of the rules that it was played by,
    `metadata` texts by name for people and lists, not for the state; `redactions` are those that the log went
    through."""

    kind: Annotated[str, Meta(pattern=whole(KIND_PATTERN))]
    key: Annotated[str, Meta(pattern=whole(KEY_PATTERN))]
    rules: Annotated[int, Meta(ge=0)] = 1
    metadata: Annotated[dict[str, str], Meta(max_length=MAX_METADATA)] = {}
    redactions: Annotated[list[Redaction], Meta(max_length=MAX_REDACTIONS)] = []


class PortableEnd(msgspec.Struct, array_like=True, frozen=True):
    """`file_hash`: BLAKE2b-128 of every byte of the file before this record. `ended`: the log is finished."""

    next_seq: Annotated[int, Meta(ge=2)]
    head: Annotated[bytes, Meta(min_length=HEAD_BYTES, max_length=HEAD_BYTES)]
    file_hash: Annotated[bytes, Meta(min_length=HEAD_BYTES, max_length=HEAD_BYTES)]
    ended: bool = True


class PortableLog(msgspec.Struct, frozen=True):
    """A file that was read; its chain is good. `log` is as a store would have it, without open chunks."""

    header: PortableHeader
    log: StoredLog
    ended: bool


_decode_header = msgspec.msgpack.Decoder(PortableHeader).decode
_decode_end = msgspec.msgpack.Decoder(PortableEnd).decode


# ---- writing --------------------------------------------------------------------------------


def write(stream: BinaryIO, header: PortableHeader, kind: LoggedKind[S], log: StoredLog) -> int:
    """Write `log`, which is verified first; entries of open chunks are sealed. Returns how many bytes. Raises
    `Corrupt` where the log does not verify: then nothing is written."""
    verified = verify(kind, log)
    if not verified.events:
        raise BadInput("a log without events is no file")
    out = _Writer(stream)
    out.raw(MAGIC + bytes([VERSION]))
    out.record(_HEADER, _encode(replace(header, redactions=list(log.redactions))))
    for chunk in sealed(kind, log):
        out.record(_SEGMENT, chunk.data)
    end = PortableEnd(log.next_seq, log.head, out.digest.digest(), kind.finished(verified.state))
    out.record(_END, _encode(end))
    return out.written


def sealed(kind: LoggedKind[S], log: StoredLog) -> list[Chunk]:
    """The segments of a log, its open chunks made into a last one. Raises `Corrupt`."""
    segments = [chunk for chunk in log.chunks if chunk.sealed]
    loaded = load(kind, log)
    if not loaded.tail:
        return segments
    end_hash = state_hash(loaded.state) if kind.finished(loaded.state) else None
    data = segment.seal(loaded.tail, loaded.base_head, loaded.base, end_hash)
    return [*segments, Chunk(loaded.tail[0].seq, loaded.tail[-1].seq, True, data)]


class _Writer:
    """A stream that is hashed as it is written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = blake2b(digest_size=HEAD_BYTES)
        self.written = 0

    def raw(self, data: bytes) -> None:
        self._stream.write(data)
        self.digest.update(data)
        self.written += len(data)

    def record(self, kind: bytes, data: bytes) -> None:
        front = kind + len(data).to_bytes(4, "big") + data
        self.raw(front + crc32(front).to_bytes(4, "big"))


# ---- reading --------------------------------------------------------------------------------


def is_portable(first_bytes: bytes) -> bool:
    """Whether a file that begins so is meant to be one, of whatever version."""
    return first_bytes.startswith(MAGIC)


def read(stream: BinaryIO) -> PortableLog:
    """The log in `stream`, every check done that needs no rules. Raises `BadInput` for another file, `Corrupt` naming
    the event, or the part of the file, at fault."""
    reader = _Reader(stream)
    if not is_portable(front := reader.take(len(MAGIC) + 1, "it")):
        raise BadInput("not a .garrison file: it does not begin as one")
    if front[-1] != VERSION:
        raise BadInput(f"a .garrison file of version {front[-1]}; this program reads versions up to {VERSION}")
    kind, data = reader.record(MAX_HEADER_BYTES, "header")
    if kind != _HEADER:
        raise Corrupt("header: it is missing")
    header = _decoded(_decode_header, data, "header")
    chunks: list[Chunk] = []
    next_seq = 1
    while True:
        place = f"segment at event {next_seq}"
        so_far = reader.digest.digest()
        kind, data = reader.record(MAX_CHUNK_BYTES, place)
        if kind != _SEGMENT:
            break
        at = segment.span(data)
        if at.first_seq != next_seq:
            raise Corrupt(f"{place}: events {next_seq} to {at.first_seq - 1} are missing, or come twice")
        chunks.append(Chunk(at.first_seq, at.last_seq, True, data))
        next_seq = at.last_seq + 1
    if kind != _END:
        raise Corrupt(f"after event {next_seq - 1}: a record of an unknown kind")
    end = _decoded(_decode_end, data, "end")
    if reader.more():
        raise Corrupt("end: more bytes than the file should have")
    log = StoredLog(end.next_seq, end.head, chunks, tuple(header.redactions))
    chain(log)
    if end.file_hash != so_far:
        raise Corrupt("end: the hash of the file does not match")
    return PortableLog(header, log, end.ended)


def to_store(kind: LoggedKind[S], portable: PortableLog) -> WholeLog:
    """The log as `LogStore.insert_log` takes it, recomputed by the rules of `kind`. Raises `Corrupt` where it does not
    verify, `BadInput` where it is not finished or another kind's."""
    if portable.header.kind != kind.name:
        raise BadInput(f"the log of a {portable.header.kind}, not of a {kind.name}")
    verified = verify(kind, portable.log)
    if not kind.finished(verified.state):
        raise BadInput(f"the log of {portable.header.kind}/{portable.header.key} is not finished")
    return WholeLog(portable.log.head, portable.log.chunks, verified.state, portable.log.redactions)


def _decoded(decode: Callable[[bytes], T], data: bytes, part: str) -> T:
    try:
        return decode(data)
    except UNDECODABLE as error:
        raise Corrupt(f"{part}: {error}") from None


class _Reader:
    """A stream that is hashed as it is read, and no longer than a file may be."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = MAX_FILE_BYTES
        self.digest = blake2b(digest_size=HEAD_BYTES)

    def take(self, count: int, part: str) -> bytes:
        self._left -= count
        if self._left < 0:
            raise BadInput(f"larger than {MAX_FILE_BYTES} bytes")
        data = self._stream.read(count)
        if len(data) < count:
            raise Corrupt(f"{part}: the file ends too early")
        self.digest.update(data)
        return data

    def record(self, most: int, part: str) -> tuple[bytes, bytes]:
        front = self.take(_FRAME_BYTES, part)
        length = int.from_bytes(front[1:], "big")
        if length > most:
            raise Corrupt(f"{part}: says it has {length} bytes")
        data = self.take(length, part)
        if crc32(data, crc32(front)).to_bytes(4, "big") != self.take(4, part):
            raise Corrupt(f"{part}: checksum does not match")
        return front[:1], data

    def more(self) -> bool:
        return bool(self._stream.read(1))
