"""Frames between a node and its query process, over the process's standard input and output. Pure.

    length 4 | msgpack [number, operation, values]      to the process
    length 4 | msgpack [number, error or nil, value]    from it

Operations: `tables` (schemas, those of snapshots), `plan` (SQL, Unix ms), `scan` (plan, since, until, seconds),
`merge` (plan, partial answers), `finish` (plan, partial answers, nodes there are, missing nodes), `answer` (SQL, Unix
ms, since, until, seconds, name of the node), which is all of it for a node that is alone. Plans and partial
answers go through the node as bytes that it does not look into.
"""

from typing import Any, Final

import msgspec

from server.errors import Corrupt
from server.wire.codec import UNDECODABLE

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
LENGTH_BYTES: Final = 4
encode = msgspec.msgpack.encode
_asked = msgspec.msgpack.Decoder(tuple[int, str, list[Any]]).decode
_answered = msgspec.msgpack.Decoder(tuple[int, tuple[str, str] | None, Any]).decode


def frame(message: Any) -> bytes:
    """A message with its length before it."""
    data = encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def length_of(head: bytes) -> int:
    """The length that a frame begins with. Raises `Corrupt` for one over the bound."""
    length = int.from_bytes(head, "big")
    if length > MAX_FRAME_BYTES:
        raise Corrupt(f"a frame of {length} bytes")
    return length


def read_asked(data: bytes) -> tuple[int, str, list[Any]]:
    """A request of a node to its query process. Raises `Corrupt`."""
    try:
        return _asked(data)
    except UNDECODABLE as error:
        raise Corrupt(str(error)) from None


def read_answered(data: bytes) -> tuple[int, tuple[str, str] | None, Any]:
    """The query process's answer: number, code and message of an error, value. Raises `Corrupt`."""
    try:
        return _answered(data)
    except UNDECODABLE as error:
        raise Corrupt(str(error)) from None
