"""Messages between the gateways of two nodes that are for their clients: events of watched streams, pushes. Pure."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from server.actors.guard import OPEN, Guard
from server.actors.latest import MAX_KEY, MAX_VALUE_BYTES
from server.errors import BadInput
from server.ids import ActorId, NodeAddress
from server.wire.codec import UNDECODABLE
from server.wire.messages import Push


class EventsTo(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Durable events for the watchers on the receiving node that were asked about under `guard`; a node of an earlier
    version asks about nobody again. `mark`: the hash of the log after the last of them. `public_seq`: the first event
    that those who watch with a delay may not see yet; -1: they may see all. Without events this is all that it says."""

    topic: ActorId
    first_seq: int
    events: list[bytes]
    guard: Guard = OPEN
    mark: Annotated[str, msgspec.Meta(max_length=32)] = ""
    public_seq: int = -1


class PushTo(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A push for a player. `hops`: how often it may be passed on after the player's session.
    `away`: the receiver is to send it to all nodes that serve the player away from its slot."""

    subject: str
    push: bytes
    hops: int
    away: bool


class ServedHere(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The sender has sessions of these players, whose slots are the receiver's, and has them from
    node `instead_of`, if that is said."""

    subjects: list[str]
    instead_of: NodeAddress | None = None


class Dismiss(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """End every session of player `subject` that the receiver has, with a close code and a reason, and pass this on
    to where its sessions went, `hops` times at most. Answered when that is done. `session`: only the one of that
    name (a node of an earlier version has one of a player at most). `issued_before_ms`: only those whose token was
    issued before that Unix time; 0: all. `every_role`: those of the host and service of that name too."""

    subject: str
    code: Annotated[int, msgspec.Meta(ge=4_000, le=4_999)]
    reason: Annotated[str, msgspec.Meta(max_length=256)]
    hops: int
    session: Annotated[str, msgspec.Meta(max_length=128)] = ""
    issued_before_ms: int = 0
    every_role: bool = False

    def is_for(self, role: str, issued_ms: int) -> bool:
        """Tell whether it ends a session of its subject in that role, whose token was issued at `issued_ms` (0: not
        known, by an earlier version; that may be any time)."""
        return (self.every_role or role == "player") and not 0 < self.issued_before_ms <= issued_ms


class LatestTo(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """A difference of latest topic `topic` for the watchers on the receiving node: the new value of `key` as msgpack,
    nil if it is gone, of order `(epoch, n)`."""

    topic: ActorId
    epoch: int
    n: int
    key: Annotated[str, msgspec.Meta(max_length=MAX_KEY)]
    value: Annotated[bytes, msgspec.Meta(max_length=MAX_VALUE_BYTES)] | None


StreamFrame = EventsTo | PushTo | ServedHere | Dismiss | LatestTo
encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StreamFrame).decode


def decode(payload: bytes) -> StreamFrame:
    """Read a message. Raises `BadInput`."""
    frame: StreamFrame = readable(_decode, payload)
    return frame


def readable(decode: Callable[[bytes], Any], payload: bytes) -> Any:
    """The decoded payload. Raises `BadInput` for bytes that `decode` does not take."""
    try:
        return decode(payload)
    except UNDECODABLE as error:
        raise BadInput(f"stream message: {error}") from None


def push_frame(subject: str, push: Push, hops: int, away: bool) -> bytes:
    """A `PushTo` as bytes."""
    return encode(PushTo(subject, encode(push), hops, away))
