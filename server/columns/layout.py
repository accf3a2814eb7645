"""The layout of a row block: a file of fixed size that holds some rows of one table, column by column. Pure.

    header 4,096 | word | 2 slots | checksums of chunks | columns … | offsets of texts | bytes of texts

Everything after the header is where the header's `Shape` says, each part on a boundary of 64 bytes, in the machine's
own byte order: a block is read on the machine that wrote it. A column is an array of its type; a text is the number
of a text, and text n lies between offsets n and n + 1 of the bytes, as in Arrow's dictionary-encoded strings, so that
readers use all of it as it lies there. Text 0 is empty. A time is milliseconds after the block's base.

The *word* says how many rows and texts are there, in one value, so that both are read at once. `block.py` says when
it is written. The first 64 bytes of the header keep their places for ever: a program that cannot read the rest of a
newer block can still say which table and time it misses.
"""

import struct
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta
from xxhash import xxh3_64_intdigest

from server.errors import Corrupt

ColumnType = Literal["time", "text", "u8", "u16", "u32", "i32", "i64", "f64"]

MAGIC: Final = b"GARRCOLS"
LAYOUT_VERSION: Final = 1
HEADER_BYTES: Final = 4_096
CHUNK_ROWS: Final = 4_096
"""Rows under one checksum."""
MAX_TEXT_BYTES: Final = 255
"""Bytes of a text; longer ones are cut."""
MAX_TEXTS: Final = 65_536
"""Different texts in a block: their numbers have 16 bits."""
MAX_COLUMNS: Final = 64
SLOT_BYTES: Final = 64

FORMATS: Final[dict[str, str]] = {
    "time": "I",
    "text": "H",
    "u8": "B",
    "u16": "H",
    "u32": "I",
    "i32": "i",
    "i64": "q",
    "f64": "d",
}
"""The code of each column type's array (module `struct`)."""
WIDTHS: Final = {name: struct.calcsize(code) for name, code in FORMATS.items()}

_PREFIX: Final = struct.Struct("<8sIIqQQ16s")
"""Magic, layout version, length of the JSON that follows, base in Unix ms, its checksum, bytes of the file, table."""

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$(?!\n)")]


class Column(msgspec.Struct, frozen=True):
    """A column of a table."""

    name: Name
    type: ColumnType


class Schema(msgspec.Struct, frozen=True):
    """The columns of a table. The first is its `time`."""

    table: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,15}$(?!\n)")]
    columns: Annotated[tuple[Column, ...], Meta(min_length=1, max_length=MAX_COLUMNS)]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        assert self.columns[0] == Column("time", "time"), "the first column of a table is its time"
        assert len(set(names)) == len(names), f"two columns of {self.table} have one name"
        assert all(column.type != "time" for column in self.columns[1:]), f"{self.table} has two times"

    @property
    def width(self) -> int:
        """Bytes of a row, without its texts."""
        return sum(WIDTHS[column.type] for column in self.columns)


class Writer(msgspec.Struct, frozen=True):
    """The process that writes a block: a run of a node, and of its successors in place (`generation`)."""

    node: str
    incarnation: Annotated[int, Meta(ge=0)]
    generation: Annotated[int, Meta(ge=0)] = 0


class Header(msgspec.Struct, frozen=True):
    """All that is known of a block before its first row. `base_ms`: Unix ms; `boot_ms`: the boot clock's, at the same
    moment, of the boot `boot_id`, below 0 where that was before the boot; `heap`: bytes of texts."""

    schema: Schema
    writer: Writer
    number: Annotated[int, Meta(ge=0)]
    rows: Annotated[int, Meta(ge=1, le=2**24)]
    texts: Annotated[int, Meta(ge=2, le=MAX_TEXTS)]
    heap: Annotated[int, Meta(ge=1024, le=2**31 - 1)]
    base_ms: int
    boot_ms: int
    boot_id: str = ""


class Shape(NamedTuple):
    """The place of each part of a block, in bytes."""

    word: int
    slots: int
    checks: int
    columns: tuple[int, ...]
    offsets: int
    heap: int
    size: int


class NewerLayout(Corrupt):
    """A block of a layout that this program does not know."""

    def __init__(self, table: str, version: int, base_ms: int) -> None:
        super().__init__(f"has layout {version}, and this program knows {LAYOUT_VERSION}")
        self.table, self.version, self.base_ms = table, version, base_ms


class NotReady(Corrupt):
    """A block whose header is not written yet, or never was since its writer died."""


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Header).decode


def shape_of(header: Header) -> Shape:
    """The places of a block's parts."""
    word = HEADER_BYTES
    slots = word + 64
    checks = slots + 2 * SLOT_BYTES
    at = _aligned(checks + 8 * -(-header.rows // CHUNK_ROWS))
    columns = []
    for column in header.schema.columns:
        columns.append(at)
        at = _aligned(at + WIDTHS[column.type] * header.rows)
    offsets = at
    heap = _aligned(offsets + 4 * (header.texts + 1))
    size = -(-(heap + header.heap) // HEADER_BYTES) * HEADER_BYTES
    return Shape(word, slots, checks, tuple(columns), offsets, heap, size)


def encode_header(header: Header) -> bytes:
    """The first 4,096 bytes of a block, without its magic, which is written last: a file without it is not ready."""
    body = _encode(header)
    assert len(body) <= HEADER_BYTES - _PREFIX.size, f"the header of {header.schema.table} is too long"
    prefix = _PREFIX.pack(
        bytes(8),
        LAYOUT_VERSION,
        len(body),
        header.base_ms,
        xxh3_64_intdigest(body),
        shape_of(header).size,
        header.schema.table.encode(),
    )
    return (prefix + body).ljust(HEADER_BYTES, b"\0")


def decode_header(data: bytes) -> Header:
    """The header of a file that begins with `data`.

    Raises `NotReady` without a magic, `NewerLayout` with what can be said of it, `Corrupt` otherwise.
    """
    if len(data) < HEADER_BYTES:
        raise NotReady(f"has {len(data)} bytes")
    magic, version, length, base_ms, check, size, table = _PREFIX.unpack_from(data)
    if magic == bytes(8):
        raise NotReady("has no header yet")
    if magic != MAGIC:
        raise Corrupt("is no block of columns")
    name = table.rstrip(b"\0").decode("ascii", "replace")
    if version > LAYOUT_VERSION:
        raise NewerLayout(name, version, base_ms)
    body = data[_PREFIX.size : _PREFIX.size + length]
    if length > HEADER_BYTES - _PREFIX.size or xxh3_64_intdigest(body) != check:
        raise Corrupt("has a damaged header")
    try:
        header = _decode(body)
    except (msgspec.DecodeError, AssertionError) as error:
        raise Corrupt(f"has a header that says nonsense: {error}") from None
    if (shape_of(header).size, header.base_ms, header.schema.table) != (size, base_ms, name):
        raise Corrupt("has a header that contradicts itself")
    return header


def word_of(rows: int, texts: int) -> int:
    """The word that publishes `rows` rows and `texts` texts."""
    return texts << 32 | rows


def counts_of(word: int, header: Header) -> tuple[int, int]:
    """The rows and texts that a word publishes. Raises `Corrupt` where they exceed the block."""
    rows, texts = word & 0xFFFF_FFFF, word >> 32
    if rows > header.rows or texts > header.texts or (rows and not texts):
        raise Corrupt(f"claims {rows} rows and {texts} texts, and has place for {header.rows} and {header.texts}")
    return rows, texts


def _aligned(at: int) -> int:
    return -(-at // 64) * 64
