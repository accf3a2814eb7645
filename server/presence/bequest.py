"""Presence as it goes over to the heir of its node (docs/succession.md): structs, and their bytes. Pure.

Times are seconds: those that are left, or, where a field ends in `_ago`, those that have passed. Who is shown at this
node follows from its activations, but for who lingers. What may be very much is copied ahead in slices: who is shown at
other nodes and whom these watch (`HeardCopy`), and whom this node watches (`WatchedCopy`).
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from server.ids import SLOT_COUNT, NodeAddress
from server.presence.messages import Count, Digest, Looks, Order, Player, ShownPlayer
from server.presence.ports import EntryState
from server.wire.codec import decoded

MAX_PEERS: Final = 10_000
MOST: Final = 4_000_000
SLICE: Final = 500
"""Players in a slice that is copied ahead, at most."""
LONG_AGO: Final = 1e9
Number = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=-LONG_AGO, le=LONG_AGO)]
Players = Annotated[list[Player], Meta(max_length=MOST)]
Orders = Annotated[dict[Player, Order], Meta(max_length=MOST)]


class HeardCopy(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Players of whom a peer has said in `stint` that they are shown there, and those whom it watches; `hidden` and
    `unwatched` are those of whom it has taken that back."""

    peer: NodeAddress
    stint: Number
    shown: Annotated[list[ShownPlayer], Meta(max_length=MOST)]
    hidden: Players
    watched: Players
    unwatched: Players


class EntryCopy(msgspec.Struct, array_like=True, frozen=True):
    """A player whom this node watches; see `WatchedPlayer`. `source`: the owner that has said so, if it still counts.
    The last ones are only told at the end: seconds for which an answer is waited for, until a row is asked for again;
    whether a row is wanted, and whether a change has not been told to the sessions."""

    player: Player
    slot: Annotated[int, Meta(ge=0, lt=SLOT_COUNT)]
    state: EntryState
    relations: Number
    looks: Looks | None
    offline: bool
    source: NodeAddress | None
    stint: Number = 0
    answer_s: Seconds | None = None
    row_s: Seconds | None = None
    wanted: bool = False
    changed: bool = False


class WatchedCopy(msgspec.Struct, array_like=True, frozen=True, tag=1):
    entries: Annotated[list[EntryCopy], Meta(max_length=MOST)]
    gone: Players


class HeardBequest(msgspec.Struct, array_like=True, frozen=True):
    """See `Heard`; what `copy` does not have was copied ahead."""

    stint: Number
    number: Number
    at_ago: Seconds
    good_ago: Seconds
    complete: Digest | None
    trusted: bool
    copy: HeardCopy


class BacklogBequest(msgspec.Struct, array_like=True, frozen=True):
    """See `Backlog`."""

    left: int
    began_ago: Seconds
    told_to_ago: Seconds


class OutgoingBequest(msgspec.Struct, array_like=True, frozen=True):
    """See `Outgoing`. A word under way is taken back: it goes again under a new number."""

    stint: Number
    number: Number
    acknowledged: bool
    truth: Orders
    interest: Players
    answers: Players
    completed: bool
    said_sure: bool
    truth_backlog: BacklogBequest
    answer_backlog: BacklogBequest
    attempt: Number
    wait_s: Seconds
    sent_ago: Seconds


class PeerBequest(msgspec.Struct, array_like=True, frozen=True):
    address: NodeAddress
    least_stint: int
    out: OutgoingBequest
    heard: HeardBequest


class FloorsBequest(msgspec.Struct, array_like=True, frozen=True):
    """See `Floors`."""

    new: Orders
    old: Orders
    turned_ago: Seconds


class LingeringBequest(msgspec.Struct, array_like=True, frozen=True):
    """A player who has moved, and is shown here for a moment longer."""

    player: Player
    epoch: Count
    n: Count
    looks: Looks | None
    relations: Number
    left_s: Seconds


class PresenceBequest(msgspec.Struct, array_like=True, frozen=True):
    """See `PresenceCore`."""

    me: NodeAddress
    digest: Digest
    has_begun: bool
    sure: bool
    stints: Number
    peers: Annotated[list[PeerBequest], Meta(max_length=MAX_PEERS)]
    past: Annotated[list[tuple[NodeAddress, int]], Meta(max_length=MAX_PEERS)]
    missing: Annotated[list[tuple[NodeAddress, Seconds | None]], Meta(max_length=MAX_PEERS)]
    lingering: Annotated[list[LingeringBequest], Meta(max_length=MOST)]
    floors: FloorsBequest
    ended: FloorsBequest
    own: HeardBequest
    own_answers: Players
    watched: WatchedCopy
    answers: Number


encode = msgspec.msgpack.Encoder().encode
_bequest = msgspec.msgpack.Decoder(PresenceBequest)
_ahead: msgspec.msgpack.Decoder[HeardCopy | WatchedCopy] = msgspec.msgpack.Decoder(HeardCopy | WatchedCopy)
WHAT: Final = "presence that goes over"


def decode(data: bytes) -> PresenceBequest:
    """Raises `BadInput` for anything but a bequest, whole and plausible."""
    return decoded(_bequest.decode, data, WHAT)


def decode_ahead(data: bytes) -> HeardCopy | WatchedCopy:
    """A slice that was copied ahead. Raises `BadInput`."""
    return decoded(_ahead.decode, data, WHAT)


def ago(at: float, now: float) -> float:
    """Seconds since `at`, which may never have been."""
    return min(LONG_AGO, now - at)
