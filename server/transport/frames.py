"""The node-to-node frame: bytes to frames and back. Pure.

    u32 length of what follows | u8 version | u8 kind | u8 service | u64 request number | payload

Integers are big-endian. `service` and the number are 0 where a kind has no use for them.
"""

import struct
from typing import Final

import msgspec

from server.errors import BadFrame, Corrupt, GarrisonError, from_wire
from server.wire.codec import UNDECODABLE

VERSION: Final = 1
HEAD: Final = struct.Struct(">IBBBQ")
HEAD_BYTES: Final = HEAD.size
COUNTED: Final = HEAD_BYTES - 4  # bytes of the head that the length covers
MAX_LOGIN_BYTES: Final = 512
MAX_MESSAGE_CHARS: Final = 1_000

# kinds, never reused
HELLO: Final = 1
CHALLENGE: Final = 2
PROOF: Final = 3
READY: Final = 4
REFUSED: Final = 5
REQUEST: Final = 6
ONE_WAY: Final = 7
RESPONSE: Final = 8
ERROR: Final = 9
PING: Final = 10
PONG: Final = 11

Frame = tuple[int, int, int, bytes]
"""Kind, service, number, payload."""

_error_decoder = msgspec.msgpack.Decoder(tuple[str, str, float | None])


def frame(kind: int, payload: bytes = b"", service: int = 0, number: int = 0) -> bytes:
    """The bytes of a frame."""
    return HEAD.pack(COUNTED + len(payload), VERSION, kind, service, number) + payload


class FrameReader:
    """Cuts a byte stream into frames. Holds at most one unfinished frame of `limit` payload
    bytes and the rest of the last read."""

    __slots__ = ("_held", "_need", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = bytearray()
        self._need = HEAD_BYTES

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises `BadFrame` whose message is the reason."""
        if self._held:
            self._held += data
            if len(self._held) < self._need:
                return []
            data = bytes(self._held)
            self._held = bytearray()
        frames: list[Frame] = []
        at, end, limit, unpack = 0, len(data), self.limit + COUNTED, HEAD.unpack_from
        while end - at >= HEAD_BYTES:
            length, version, kind, service, number = unpack(data, at)
            if version != VERSION:
                raise BadFrame("wrong version")
            if not COUNTED <= length <= limit:
                raise BadFrame("frame too large" if length > limit else "frame too short")
            stop = at + 4 + length
            if stop > end:
                self._need = stop - at
                break
            frames.append((kind, service, number, data[at + HEAD_BYTES : stop]))
            at = stop
        else:
            self._need = HEAD_BYTES
        if at < end:
            self._held += data[at:]
        return frames


def encode_error(error: GarrisonError) -> bytes:
    """The payload of an `ERROR` frame."""
    return msgspec.msgpack.encode((error.code, error.message[:MAX_MESSAGE_CHARS], error.retry_after_s))


def decode_error(payload: bytes) -> GarrisonError:
    """The typed error in `payload`; `Corrupt` if it holds none."""
    try:
        return from_wire(*_error_decoder.decode(payload))
    except UNDECODABLE:
        return Corrupt("the peer's error cannot be read")
