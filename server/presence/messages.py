"""Messages between two nodes about who is shown and who watches whom. No I/O.

    PresenceWord   in the stream of a node to another one, numbered; see `core.py`
    LookUp         one question, without a stream: how do these look now?

A player is told by name; it is always a key of the session's actor.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from server.actors.pictures import MAX_PICTURE_BYTES, MAX_RELATIONS
from server.presence.ports import MAX_PLAYER
from server.wire.codec import decoded

MAX_ITEMS: Final = 1_000
"""Items of a sort in a message."""
CLOSED: Final = 2**53 - 1
"""The last number of an epoch: after every change that the activation with this epoch has shown."""
Player = Annotated[str, Meta(min_length=1, max_length=MAX_PLAYER)]
Players = Annotated[list[Player], Meta(max_length=MAX_ITEMS)]
Count = Annotated[int, Meta(ge=0, le=CLOSED)]
Digest = Annotated[int, Meta(ge=0)]
Picture = Annotated[bytes, Meta(max_length=MAX_PICTURE_BYTES)]
Order = tuple[int, int]
"""`(epoch, n)`."""


class Looks(msgspec.Struct, array_like=True, frozen=True):
    """`server.actors.pictures.Pictures`, with the bounds of what comes from another node; friends' and the player's own
    are None where they are the same as everybody's."""

    everybody: Picture
    friends: Picture | None
    own: Picture | None


class ShownPlayer(msgspec.Struct, array_like=True, frozen=True):
    """A player who is here, at the node that says so: order, relations and looks."""

    player: Player
    epoch: Count
    n: Count
    relations: Annotated[int, Meta(ge=0, le=MAX_RELATIONS)]
    looks: Looks


class HiddenPlayer(msgspec.Struct, array_like=True, frozen=True):
    """A player who is not here any more: since `(epoch, n)`, where n is `CLOSED` if the activation has ended."""

    player: Player
    epoch: Count
    n: Count


class PlayerAnswer(msgspec.Struct, array_like=True, frozen=True):
    """How a player looks, by the owner of the player's slot. Without looks the player is offline."""

    player: Player
    relations: Annotated[int, Meta(ge=0, le=MAX_RELATIONS)] = 0
    looks: Looks | None = None


class PresenceWord(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """A message of the stream; see `core.py`.

    As a home: `shown`, `hidden`, and `untold`, of whom the receiver hears no more (their slots are another node's);
    `complete`: all who are shown there, in slots of the receiver, have been told. As a watching node: `watched`,
    `unwatched`. As an owner of slots: `answers`; `sure`: it knows of everybody in its slots, and has said so.
    `takes_answers`: in the reply; a sender of an earlier version does not read them there."""

    stint: Annotated[int, Meta(ge=1)]
    number: Annotated[int, Meta(ge=1)]
    first: bool
    digest: Digest
    shown: Annotated[list[ShownPlayer], Meta(max_length=MAX_ITEMS)]
    hidden: Annotated[list[HiddenPlayer], Meta(max_length=MAX_ITEMS)]
    untold: Players
    complete: bool
    watched: Players
    unwatched: Players
    answers: Annotated[list[PlayerAnswer], Meta(max_length=MAX_ITEMS)]
    sure: bool
    takes_answers: bool = False


class PresenceReply(msgspec.Struct, array_like=True, frozen=True):
    """`refused`: the receiver has another view, or has had a later word. `afresh`: the receiver has forgotten what it
    heard from the sender, which begins a new stint and says all of it again.

    `answers`: about those whom the word watches, if the receiver can say that at once; `stint` and `number`: of the
    last word that it had made by then, after which they sort."""

    verdict: Literal["taken", "refused", "afresh"]
    stint: Annotated[int, Meta(ge=0)] = 0
    number: Annotated[int, Meta(ge=0)] = 0
    answers: Annotated[list[PlayerAnswer], Meta(max_length=MAX_ITEMS)] = []


class LookUp(msgspec.Struct, array_like=True, frozen=True, tag=1):
    digest: Digest
    players: Players


class LookedUp(msgspec.Struct, array_like=True, frozen=True):
    """The answers to a `LookUp`, none where the owner is not sure; those that had no room are missing."""

    answers: Annotated[list[PlayerAnswer], Meta(max_length=MAX_ITEMS)]


encode = msgspec.msgpack.Encoder().encode
_request: msgspec.msgpack.Decoder[PresenceWord | LookUp] = msgspec.msgpack.Decoder(PresenceWord | LookUp)
WHAT: Final = "presence message"
_reply = msgspec.msgpack.Decoder(PresenceReply)
_looked = msgspec.msgpack.Decoder(LookedUp)


def decode(payload: bytes) -> PresenceWord | LookUp:
    """Raises `BadInput` for anything but a message, whole and plausible."""
    return decoded(_request.decode, payload, WHAT)


def decode_reply(payload: bytes) -> PresenceReply:
    """Raises `BadInput`."""
    return decoded(_reply.decode, payload, WHAT)


def decode_looked(payload: bytes) -> LookedUp:
    """Raises `BadInput`."""
    return decoded(_looked.decode, payload, WHAT)


def size_of(looks: Looks | None) -> int:
    """About how many bytes `looks` take in a message."""
    if looks is None:
        return 8
    return 16 + len(looks.everybody) + len(looks.friends or b"") + len(looks.own or b"")
