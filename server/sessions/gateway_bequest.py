"""Bequest of a gateway: its part of a succession that is not a session's. Pure.

Goes over   the number of the newest hello, which stands in the names of sessions; names and content of latest pictures,
            and what is shown of watched players, since clients have cursors in both; ends and guards of streams; the
            sessions that went to other nodes, that ended here after they came from one, and that were taken back; which
            nodes serve players away from their slots, and who had the slots before; wrong guesses by address; the order
            of a player's sessions
Is rebuilt  wheel and ticks; marks of tokens (whoever resumes is checked again); caches of queries, logs and levels;
            connections before their session, which are closed; searches for sessions, which are those connections';
            sessions' turns in line for another node, which is seen anew by the view
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from server.ids import Incarnation, NodeAddress, NodeId
from server.sessions.picture import PictureCopy
from server.sessions.session_copy import Moment, Player, Seq
from server.sessions.transfer_frames import Count, ResumeToken, Text
from server.wire.codec import decoded

Place = tuple[Annotated[str, Meta(max_length=64)], Count]
"""The address of a node."""


class StreamTopicCopy(msgspec.Struct, array_like=True, frozen=True):
    """A watched stream, as its actor has told of it: see `topic.Topic`."""

    topic: Text
    end: Annotated[int, Meta(ge=1, le=2**62)]
    finished: bool
    guard: tuple[Count, Count]
    public_seq: Count


class LatestTopicCopy(msgspec.Struct, array_like=True, frozen=True):
    """A watched latest topic: the name of its picture in clients' cursors, and the picture."""

    topic: Text
    token: Annotated[str, Meta(max_length=128)]
    picture: PictureCopy


class AudienceCopy(msgspec.Struct, array_like=True, frozen=True):
    """A watched player, as it is shown to its watchers: see `presence_tables.Audience`. `values` by level, without the
    first, which is empty; none before it is known for the first time."""

    player: Player
    values: tuple[bytes, bytes, bytes, bytes] | None
    moved: tuple[Seq, Seq, Seq, Seq, Seq]
    relations: Annotated[int, Meta(ge=-1, le=2**62)]


class DepartedCopy(msgspec.Struct, array_like=True, frozen=True):
    """See `transfer.DepartedSession` and `transfer.Reclaimed`; `player` is empty for the latter."""

    resume: ResumeToken
    to: Place
    moves: Count
    until: Moment
    player: Annotated[str, Meta(max_length=64)] = ""


class AwayCopy(msgspec.Struct, array_like=True, frozen=True):
    """A player, and the nodes that serve it away from its slot, each until when."""

    player: Player
    nodes: list[tuple[Place, Moment]]


class EarlierCopy(msgspec.Struct, array_like=True, frozen=True):
    """Owners of slots before the present ones, with their weights, and when that ended."""

    owners: list[tuple[Place, Annotated[int, Meta(ge=0, le=1_000_000)]]]
    ended: Moment


class GuessCopy(msgspec.Struct, array_like=True, frozen=True):
    """Wrong guesses from an address: see `guesses.GuessLimits`."""

    address: Annotated[str, Meta(max_length=64)]
    level: Annotated[float, Meta(ge=0.0, le=1e9)]
    at: Moment


class GatewayBequest(msgspec.Struct, array_like=True, frozen=True):
    """See the module's head. `hellos`: number of the newest hello. `pictures`: number of the newest name of a latest
    picture. `revision` of presence, in cursors that begin with `presence`. `latest` and `audiences`: those that have
    changed since they were copied ahead, if they were. `several`: sessions of each subject that has
    more than one, in the order of `SessionTable.of_subject`."""

    hellos: Count
    pictures: Count
    presence: Annotated[str, Meta(max_length=128)]
    revision: Seq
    streams: list[StreamTopicCopy]
    latest: list[LatestTopicCopy]
    audiences: list[AudienceCopy]
    departures: list[DepartedCopy]
    ended: list[DepartedCopy]
    reclaims: list[DepartedCopy]
    away: list[AwayCopy]
    earlier: list[EarlierCopy]
    guesses: list[GuessCopy]
    several: list[list[ResumeToken]]


class GatewayAhead(msgspec.Struct, array_like=True, frozen=True):
    """A slice of what a gateway has much of, copied ahead: pictures that are shown of players, and of latest topics."""

    audiences: list[AudienceCopy]
    latest: list[LatestTopicCopy]


encode_bequest: Final = msgspec.msgpack.Encoder().encode
"""The bytes of a `GatewayBequest`."""
_decode: Final = msgspec.msgpack.Decoder(GatewayBequest).decode
_decode_ahead: Final = msgspec.msgpack.Decoder(GatewayAhead).decode


def decode_bequest(data: bytes) -> GatewayBequest:
    """Read a bequest. Raises `BadInput`."""
    return decoded(_decode, data, "bequest of a gateway")


def decode_ahead(data: bytes) -> GatewayAhead:
    """Read a slice that was copied ahead. Raises `BadInput`."""
    return decoded(_decode_ahead, data, "copies of a gateway")


def place_of(address: NodeAddress) -> Place:
    """A node's address as it travels."""
    return str(address.node), int(address.incarnation)


def address_of(place: Place) -> NodeAddress:
    """A node's address as it is used."""
    return NodeAddress(NodeId(place[0]), Incarnation(place[1]))
