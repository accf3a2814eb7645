"""The head of one journal file (a segment), pure: which run it is of and which numbers it holds.

    magic (8) | format (u16) | - (6) | incarnation (u64) | first sequence (u64) | cluster (32) |
    node (32) | XXH3-64 of all before (u64) | newest (u64) | truncated (u64) | ~truncated (u64)

A preallocated file is all zeros: *blank*. To begin a file, its old head is first made blank and the
magic is written last, so that a process that dies half-way leaves a blank file, never a damaged
one. `newest` is written after each record: what it says was acknowledged must be found.
`truncated` (every lower number is of no more use) is there twice, the second time inverted: where
the two disagree, it is unknown.
"""

from struct import Struct
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from server.ids import NodeAddress
from server.storage.journal.record import HEADER_BYTES

MAGIC: Final = b"GARRISJ1"
FORMAT: Final = 1
HEAD_BYTES: Final = 256
"""Records begin here."""
_FIXED: Final = Struct("<8sH6xQQ32s32s")
_CHECK: Final = Struct("<Q")
NEWEST: Final = Struct("<Q")
NEWEST_AT: Final = _FIXED.size + _CHECK.size
_TRUNCATED: Final = Struct("<QQ")
_TRUNCATED_AT: Final = NEWEST_AT + NEWEST.size
_ALL_ONES: Final = 2**64 - 1


class Head(msgspec.Struct, frozen=True):
    """`newest` is 0 where nothing was acknowledged, `truncated` 0 where it is unknown."""

    first: int
    newest: int
    truncated: int


class BadHead(ValueError):
    """The head is damaged, or of another run."""


def begin(buffer: memoryview, cluster: str, owner: NodeAddress, first: int, truncated: int) -> None:
    """Make `buffer`, a mapped file, the one that continues the run with number `first`."""
    buffer[: len(MAGIC)] = bytes(len(MAGIC))
    fixed = _FIXED.pack(MAGIC, FORMAT, owner.incarnation, first, cluster.encode(), owner.node.encode())
    NEWEST.pack_into(buffer, NEWEST_AT, 0)
    truncate(buffer, truncated)
    buffer[len(MAGIC) : NEWEST_AT] = fixed[len(MAGIC) :] + _CHECK.pack(xxh3_64_intdigest(fixed))
    buffer[: len(MAGIC)] = MAGIC


def truncate(buffer: memoryview, position: int) -> None:
    """Note that every number below `position` is of no more use."""
    _TRUNCATED.pack_into(buffer, _TRUNCATED_AT, position, position ^ _ALL_ONES)


def read(data: bytes, size: int, cluster: str, owner: NodeAddress) -> Head | None:
    """The head, which `data` begins with, of a file of `size` bytes of that run; None for a blank
    one. Raises `BadHead`."""
    if len(data) < HEAD_BYTES:
        raise BadHead(f"the file ends after {len(data)} bytes")
    if data[: len(MAGIC)] == bytes(len(MAGIC)):
        return None
    magic, version, incarnation, first, its_cluster, node = _FIXED.unpack_from(data)
    (check,) = _CHECK.unpack_from(data, _FIXED.size)
    if magic != MAGIC or check != xxh3_64_intdigest(data[: _FIXED.size]):
        raise BadHead("its head fails its check")
    if version != FORMAT:
        raise BadHead(f"it has format {version}, not {FORMAT}")
    names = its_cluster.rstrip(b"\0"), node.rstrip(b"\0"), incarnation
    if names != (cluster.encode(), owner.node.encode(), owner.incarnation):
        raise BadHead(f"it is of node {names[1].decode()}#{incarnation} in cluster {names[0].decode()}")
    (newest,) = NEWEST.unpack_from(data, NEWEST_AT)
    truncated, inverted = _TRUNCATED.unpack_from(data, _TRUNCATED_AT)
    if newest and not first <= newest < first + size // HEADER_BYTES:
        raise BadHead("its number of the newest record is damaged")
    return Head(first, newest, truncated if truncated ^ inverted == _ALL_ONES else 0)
