"""A client's view of a watched player: levels, versions, and the bytes of items and frames. Pure.

A player shows one picture to everybody, one to friends and one to itself; somebody who is blocked gets the
application's `hidden`, and whoever is not known right now its `unknown`. An item is a player with its picture at one
level, encoded once for all who see the same; its version is a hash of the content, so that it says nothing of what
stays unseen, and means the same at every node.
"""

import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, Literal

import msgspec

from server.actors.actor import Role
from server.actors.pictures import Pictures, Relations
from server.wire.codec import Format
from server.wire.messages import MAX_SEQ, PresenceChanges

Visibility = Literal["status", "friends", "everybody"]

NOTHING_SEEN: Final = 0
"""Level of who is watched for the session itself, or whose level is not known yet."""
HIDDEN: Final = 1
EVERYBODY: Final = 2
FRIENDS: Final = 3
OWN: Final = 4
LEVELS: Final = 0b111
JSON: Final = 0b1000
"""Added to a level: as JSON. A *look* is a level in one of the formats."""
LOOKS: Final = 0b1111
LOOK_BITS: Final = 4

Values = tuple[bytes, bytes, bytes, bytes, bytes]
"""Values by level, as msgpack; that of `NOTHING_SEEN` is empty."""

_TAG: Final = str(PresenceChanges.__struct_config__.tag)
_encode: Final = msgspec.msgpack.Encoder().encode
_encode_json: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode
_HEAD: Final = b"\x93" + _encode(_TAG)
_HEAD_JSON: Final = b"[" + _encode_json(_TAG) + b","
_ITEM: Final = b"\x93"
_FEW: Final = 16
_MANY: Final = 2**16


class Sight:
    """The rights of a client to see: the levels of players, from its relations and the setting `presence.visibility`.
    Hosts and services have no relations; they see what everybody may see."""

    def __init__(self, visibility: Visibility, role: Role, subject: str, relations: Relations | None) -> None:
        self.number = relations.number if relations is not None else -1
        self.friends: Sequence[str] = relations.friends if relations is not None else ()
        """In the order of the list."""
        self.other = EVERYBODY
        """Level of everybody who is not in `levels`."""
        if visibility == "everybody":
            self.other = FRIENDS
        elif visibility == "friends" and role == "player":
            self.other = HIDDEN
        self.levels = dict.fromkeys(self.friends, FRIENDS)
        if relations is not None:
            self.levels.update(dict.fromkeys(relations.hidden, HIDDEN))
        if role == "player":
            self.levels[subject] = OWN

    def level(self, player: str) -> int:
        """The level at which the client sees `player`."""
        return self.levels.get(player, self.other)


def values_of(pictures: Pictures, hidden: bytes) -> Values:
    """The values of a player who shows `pictures`."""
    return (b"", hidden, pictures.everybody, pictures.friends, pictures.own)


def version_of(value: bytes) -> int:
    """The version of a value: a number of 53 bits, never 0, that stands for its content."""
    return (int.from_bytes(blake2b(value, digest_size=8).digest(), "big") & MAX_SEQ) or 1


def item(player: str, value: bytes, format: Format) -> bytes:
    """A player with its presence, as it stands in a frame."""
    if format == "msgpack":
        return _ITEM + _encode(player) + _encode(version_of(value)) + value
    return b"[%b,%d,%b]" % (_encode_json(player), version_of(value), _encode_json(_decode(value)))


def gone_item(player: str, format: Format) -> bytes:
    """A player that is watched no more, as it stands in a frame."""
    if format == "msgpack":
        return _ITEM + _encode(player) + b"\x00\xc0"
    return b"[%b,0,null]" % _encode_json(player)


def frame(cursor: str, items: Sequence[bytes], format: Format) -> bytes:
    """A `presence.changes` of encoded items."""
    if format == "json":
        return b"%b%b,[%b]]" % (_HEAD_JSON, _encode_json(cursor), b",".join(items))
    return b"".join((_HEAD, _encode(cursor), _array_head(len(items)), *items))


def _array_head(length: int) -> bytes:
    if length < _FEW:
        return bytes((0x90 | length,))
    return struct.pack(">BH", 0xDC, length) if length < _MANY else struct.pack(">BI", 0xDD, length)


def chunks(sizes: Iterable[int], most_bytes: int) -> list[int]:
    """How many of a row of items go into each frame, so that none has more than `most_bytes` of them; an item that is
    larger has a frame of its own."""
    sizes = list(sizes)
    if sum(sizes) <= most_bytes:
        return [len(sizes)] if sizes else []
    counts: list[int] = []
    count = room = 0
    for size in sizes:
        if count and size > room:
            counts.append(count)
            count = 0
        if not count:
            room = most_bytes
        count += 1
        room -= size
    return [*counts, count] if count else counts
