"""A session's transfer on the wire between nodes: four messages and their answers. Pure.

    Shipment   sessions, frozen, from the node that has them; answered by one verdict for each
    Want       a question for sessions whose clients have just said hello at the asker
    Forget     word that a shipped session ended for good on its old connection, or goes on at its
               sender, which did not learn that it had arrived
    Dismissed  word that an actor ended a session that was on its way

A session travels as a `Packed`, cut between two of its messages: everything that resuming needs, its
pushes as the frames that the client will see. A repeated shipment gets the same answer again, so that a
sender that does not know what became of one repeats it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from server.errors import BadInput, Corrupt
from server.ids import actor_id, parse_actor_id
from server.sessions.outbox import Outbox
from server.wire.bounds import MOST, Int64
from server.wire.codec import UNDECODABLE, Format
from server.wire.messages import MAX_SEQ

LATEST: Final = MAX_SEQ + 1
"""In place of the number of the next event: the topic is a latest one."""
MAX_BATCH: Final = 100
"""Sessions in one shipment, and questions in one `Want`."""
MAX_BATCH_BYTES: Final = 256 * 1024
"""About what one shipment holds; a session with more in its outbox travels alone."""

Verdict = Literal[0, 1, 2]
INSTALLED: Final = 0
REFUSED: Final = 1
"""Nothing was installed: the receiver has no room, or is leaving too, or its own session of that player is
on its way elsewhere, so that it cannot compare the two."""
REPLACED: Final = 2
"""The receiver has a session of that player that stays (see `transfer.takes_over`)."""

ClientRole = Literal["player", "host", "service"]
Text = Annotated[str, Meta(min_length=1, max_length=128)]
ResumeToken = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0, le=MOST)]
T = TypeVar("T")


class Packed(msgspec.Struct, array_like=True, frozen=True):
    """A session between two of its messages. `moves` counts its shipments. `frames` are the pushes `acked + 1`,
    `acked + 2`, … `beats`: heartbeats that `Beats` acknowledges. `topics`: topics that it watches, with
    the number of the event that it gets next (or `LATEST`). `sent`: the newest push that was ever written to the
    client; absent where it is connected, and so may get all of `frames`. `client`: its client's own word
    for itself. `pulled`: the receiver has asked for it, since its client waited there.
    `device` and what follows: see `server.actors.devices.Login`."""

    resume: ResumeToken
    session: Text
    subject: Text
    role: ClientRole
    format: Format
    stays: bool
    moves: Count
    since_ms: Int64
    beats: Count
    acked: Count
    frames: list[bytes]
    topics: list[tuple[Text, Annotated[int, Meta(ge=1, le=LATEST)]]]
    sent: Count | None = None
    client: Annotated[str, Meta(max_length=64)] = ""
    pulled: bool = False
    device: Annotated[str, Meta(max_length=32)] = ""
    login_number: Count = 0
    issued_ms: Count = 0
    age_ms: Count = 0
    instead_of: Annotated[str, Meta(max_length=32)] = ""


class Wanted(msgspec.Struct, array_like=True, frozen=True):
    """A resume token, with the player that it must belong to."""

    resume: ResumeToken
    subject: Text
    role: ClientRole


class Shipment(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Answered by a list of `Verdict`, one for each session. Read, it has None for a session that cannot be one, so
    that the others arrive all the same."""

    sessions: list[Packed | None]


class Want(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Answered by a list of text, one for each: empty (never heard of it), the asker's own address
    (it is on its way there now) or the address of the node that it went to."""

    wanted: Annotated[list[Wanted], Meta(max_length=MAX_BATCH)]


class Forget(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """End the copy that shipment `moves` of session `resume` brought, for the reason `why`: `moved` if the
    session goes on at the sender."""

    resume: ResumeToken
    moves: Count
    why: Text


class Dismissed(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """End the copy that shipment `moves` of session `resume` brought, or a later one did, wherever it is by now: an
    actor has ended the session. Its client is told `code` and `reason`."""

    resume: ResumeToken
    moves: Count
    code: Annotated[int, Meta(ge=4_000, le=4_999)]
    reason: Annotated[str, Meta(max_length=256)]


TransferFrame = Shipment | Want | Forget | Dismissed


class _Shipped(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """A `Shipment` whose sessions are not read yet."""

    sessions: Annotated[list[msgspec.Raw], Meta(max_length=MAX_BATCH)]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Shipped | Want | Forget | Dismissed).decode
_decode_packed = msgspec.msgpack.Decoder(Packed).decode
_decode_verdicts = msgspec.msgpack.Decoder(list[Verdict]).decode
_decode_places = msgspec.msgpack.Decoder(list[Annotated[str, Meta(max_length=128)]]).decode


def encode(message: "TransferFrame | Sequence[int] | Sequence[str]") -> bytes:
    """Encode a message, or the answer to a message."""
    return _encode(message)


def decode(payload: bytes) -> TransferFrame:
    """Read a message. Raises `BadInput` for anything but a whole and plausible one; of a shipment, a session that is
    not plausible is None, and takes no other with it."""
    try:
        message: _Shipped | Want | Forget | Dismissed = _decode(payload)
    except UNDECODABLE as error:
        raise BadInput(f"session message: {error}") from None
    if isinstance(message, _Shipped):
        return Shipment([_packed(raw) for raw in message.sessions])
    return message


def _packed(raw: msgspec.Raw) -> Packed | None:
    try:
        packed: Packed = _decode_packed(raw)
        actor_id("session", packed.subject)
        for topic, _ in packed.topics:
            parse_actor_id(topic)
    except (*UNDECODABLE, BadInput):
        return None
    return packed


def decode_verdicts(payload: bytes, count: int) -> list[Verdict]:
    """Read the answer to a `Shipment` of `count` sessions. Raises `Corrupt`."""
    return _answers(_decode_verdicts, payload, count)


def decode_places(payload: bytes, count: int) -> list[str]:
    """Read the answer to a `Want` of `count` sessions. Raises `Corrupt`."""
    return _answers(_decode_places, payload, count)


def _answers(decode: Callable[[bytes], list[T]], payload: bytes, count: int) -> list[T]:
    try:
        answers = decode(payload)
    except UNDECODABLE as error:
        raise Corrupt(f"answer of a gateway: {error}") from None
    if len(answers) != count:
        raise Corrupt(f"{len(answers)} answers to {count} questions")
    return answers


def unpack_outbox(packed: Packed, max_messages: int, max_bytes: int) -> Outbox | None:
    """Restore the session's outbox; None if it is over this node's bounds, with one frame's grace (the `going`
    that was packed last). Resuming is decided by the pushes that were sent, or may have been, and by the
    number that the client says."""
    size = sum(map(len, packed.frames))
    if len(packed.frames) > max_messages + 1 or size > max_bytes + 1024:
        return None
    return Outbox.restored(max_messages, max_bytes, packed.acked, packed.frames, packed.sent)


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """`items` in lists of at most `MAX_BATCH`."""
    out: list[T] = []
    for item in items:
        out.append(item)
        if len(out) == MAX_BATCH:
            yield out
            out = []
    if out:
        yield out
