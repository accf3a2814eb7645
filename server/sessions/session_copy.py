"""A session as it goes over to the next process of its node: everything that it is between two of its messages. Pure.

A `Packed` (`transfer_frames.py`) has what *resuming* needs; its client comes anew, and begins on a new connection. A
`SessionCopy` has what *going on* needs: its client notices nothing. So it has numbers that a client was told already
(pushes, heartbeats), debts (acknowledgements of heartbeats), places in what it watches, and what it has been shown.

Both processes are of one machine and one boot, so they share the monotonic clock (`server.runtime.clock.Clock.now`):
moments travel as they are, and a copy that was made early is right later. Versions may differ: fields are only ever
added, at an array's end, with a default.
"""

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from server.errors import BadInput
from server.ids import actor_id, parse_actor_id
from server.sessions.transfer_frames import ClientRole, Count, ResumeToken, Text
from server.wire.bounds import MOST, Int64
from server.wire.codec import Format, decoded
from server.wire.messages import MAX_SEQ

MAX_WAITING: Final = 4096
"""Messages of a client that were read and not handled yet: one read has no more of them."""
MAX_LISTED: Final = 1_000_000

Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Signed = Annotated[int, Meta(ge=-1, le=MOST)]
Moment = Annotated[float, Meta(ge=-1e12, le=1e18)]
"""Seconds of the shared monotonic clock."""
Tokens = Annotated[float, Meta(ge=-1e9, le=1e9)]
Player = Annotated[str, Meta(min_length=1, max_length=64)]
CopiedPhase = Literal["attached", "detached", "arrived"]
T = TypeVar("T")


class OutboxCopy(msgspec.Struct, array_like=True, frozen=True):
    """`frames` are the pushes `acked + 1`, `acked + 2`, …; those up to `sent` were written to the client."""

    acked: Seq = 0
    sent: Seq = 0
    last: Seq = 0
    lost: bool = False
    frames: list[bytes] = []


class BucketCopy(msgspec.Struct, array_like=True, frozen=True):
    """See `rate_bucket.TokenBucket`, whose slots these are."""

    tokens: Tokens
    granted: Count
    hurried: bool
    rest: Tokens
    at: Moment
    due: Moment
    costly_due: Moment


class StreamCopy(msgspec.Struct, array_like=True, frozen=True):
    """A watched stream. `next_seq`: the event that its client gets next. `guard`: the newest under which its actor let
    it in; `late`: it lags."""

    topic: Text
    next_seq: Annotated[int, Meta(ge=1, le=MAX_SEQ + 1)]
    guard: tuple[Count, Count] = (0, 0)
    late: bool = False


class LatestCopy(msgspec.Struct, array_like=True, frozen=True):
    """A watched latest topic. See `picture.Slot`."""

    topic: Text
    revision: Signed
    over: bool = False


class PeopleCopy(msgspec.Struct, array_like=True, frozen=True):
    """The players that a session watches: see `presence_tables.WatchTable`. `marks` has a byte for each of `players`.
    `again`: its relations are to be asked for before it is sent anything."""

    players: Annotated[list[Player], Meta(max_length=MAX_LISTED)]
    marks: bytes
    own: bool
    number: Signed
    friends: bool
    friends_due: bool
    behind: bool
    again: bool
    unasked: Count
    since: Count
    gone: Annotated[list[Player], Meta(max_length=MAX_LISTED)] = []


class ReplayCopy(msgspec.Struct, array_like=True, frozen=True):
    """An open replay: see `replays.Replay`. `at_ms` of the log's clock was shown at the moment `since`."""

    number: Int64
    topic: Text
    next_seq: Annotated[int, Meta(ge=1, le=MAX_SEQ + 1)]
    at_ms: Annotated[float, Meta(ge=-1e15, le=1e15)]
    since: Moment
    speed: Annotated[int, Meta(ge=1, le=1_000_000)]
    plays: bool
    held: bool
    scene_due: bool
    follow: Annotated[str, Meta(max_length=128)] = ""
    why: Annotated[str, Meta(max_length=64)] = ""


class SessionCopy(msgspec.Struct, array_like=True, frozen=True):
    """See the module's head. `remote`: its client's address; `traffic`: bytes in and out. `beat_due`: heartbeats are to
    be acknowledged. `starved`: a stream waits for room in the outbox. `waiting`: messages that were read and are not
    handled yet. `leaves`: it should go to another node, to `pulled_to` where its client waits there. `token_until_ms`:
    None of a token without an end."""

    resume: ResumeToken
    session: Text
    subject: Text
    role: ClientRole
    format: Format
    stays: bool
    phase: CopiedPhase
    order: Count
    moves: Count
    login_number: Count
    since_ms: Int64
    began: Moment
    detached_at: Moment
    issued_ms: Count
    token_until_ms: Annotated[float, Meta(ge=-1e18, le=1e18)] | None
    remote: Annotated[str, Meta(max_length=256)]
    country: Annotated[str, Meta(max_length=64)]
    traffic: tuple[Count, Count]
    client: Annotated[str, Meta(max_length=64)]
    device: Annotated[str, Meta(max_length=32)]
    instead_of: Annotated[str, Meta(max_length=32)]
    beats: Count
    beat_due: bool
    starved: bool
    outbox: OutboxCopy
    bucket: BucketCopy
    streams: list[StreamCopy] = []
    latest: list[LatestCopy] = []
    people: PeopleCopy | None = None
    replays: list[ReplayCopy] = []
    waiting: Annotated[list[bytes], Meta(max_length=MAX_WAITING)] = []
    leaves: bool = False
    pulled_to: Annotated[str, Meta(max_length=128)] = ""


encode_copy: Final = msgspec.msgpack.Encoder().encode
"""The bytes of a `SessionCopy`, or of what else goes over with it."""
_decode: Final = msgspec.msgpack.Decoder(SessionCopy).decode


def decode_copy(data: bytes) -> SessionCopy:
    """Read a copy. Raises `BadInput` for anything but a whole and plausible one."""
    copy = decoded(_decode, data, "copy of a session")
    actor_id("session", copy.subject)
    for topic in (*(each.topic for each in copy.streams), *(each.topic for each in copy.latest)):
        parse_actor_id(topic)
    for replay in copy.replays:
        parse_actor_id(replay.topic)
    box = copy.outbox
    if not box.acked <= box.sent <= box.last or box.last - box.acked != len(box.frames):
        raise BadInput(f"copy of session {copy.session}: {len(box.frames)} pushes between {box.acked} and {box.last}")
    people = copy.people
    if people is not None:
        if len(people.marks) != len(people.players) or len(set(people.players)) != len(people.players):
            raise BadInput(
                f"copy of session {copy.session}: {len(people.marks)} marks of {len(people.players)} players"
            )
        for player in people.players:
            actor_id("session", player)
    return copy
