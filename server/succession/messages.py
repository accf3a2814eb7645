"""The messages between a predecessor and its heir. Pure.

Each message of the predecessor is answered by one of the heir, `LastWord` by nothing. The heir speaks first.

    HeirHello                 the heir's, about itself
    RunGiven    -> Holdings   the run that goes over; descriptors: listening sockets, and the lock of a journal
    CopiesAhead -> Took       activations and sessions as they are now, some of them not for the first time
    Sockets     -> Took       descriptors: connections of clients
    Bequests    -> Took       what every other part of the node holds, while it rests
    AllSaid     -> Holdings   the heir says what it holds
    LastWord                  the heir serves from now on
    NoHeir                    in place of any answer, or of `RunGiven`: it comes to nothing
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from server.cluster.view import Member
from server.ids import ActorId
from server.succession.fits import Account
from server.wire.codec import decoded

MOST_PARCELS: Final = 10_000
Text = Annotated[str, Meta(max_length=4096)]
Name = Annotated[str, Meta(max_length=64)]


class HeirHello(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """The heir, as `fits.py` looks at it. `journal`: the place of its own; empty where it has none."""

    pid: int
    account: Account
    journal: Text = ""


class RunGiven(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The run that goes over: `me`, under its new generation. `members`: as the predecessor sees them, and itself.
    `journal`: the place of the predecessor's. `sockets`: for each descriptor of this message the part that listens on
    it; `journal` for the lock of that."""

    me: Member
    members: list[Member]
    journal: Text
    sockets: list[Name]


class CopiesAhead(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """`packed_at`: the boot clock, in seconds, when these were packed: times in them count from then. `gone`: those
    that were copied and are no more. `directory`, `presence` and `gateway`: see `Directory.copy_ahead`."""

    packed_at: float
    parcels: Annotated[list[bytes], Meta(max_length=MOST_PARCELS)]
    gone: list[ActorId]
    sessions: Annotated[list[bytes], Meta(max_length=MOST_PARCELS)]
    sessions_gone: list[Text]
    directory: bytes = b""
    presence: bytes = b""
    gateway: bytes = b""


class Sockets(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """For each descriptor of this message: the resume token of its session, and the kernel's cookie of the socket."""

    connections: list[tuple[Text, int]]


class Bequests(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Bequests by the names of `parts.py`."""

    parts: dict[Name, bytes]


class AllSaid(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """`attached`: sessions whose connection goes over, of those whose sockets were sent."""

    attached: list[Text]


class LastWord(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """`resting_since`: the boot clock, in seconds, when the predecessor's rest began; `lease_s`: what was left of its
    lease when it froze."""

    resting_since: float
    lease_s: float
    going: int
    """Clients that were told to come again, because their connections could not go over."""


class Took(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """`unreadable`: the places in the message of sessions that the heir cannot take: their clients begin anew."""

    unreadable: list[Annotated[int, Meta(ge=0, lt=MOST_PARCELS)]] = []


class Holdings(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """The holdings of the heir. `digest`: of all parcels, see `copying.py`."""

    activations: int = 0
    digest: int = 0
    sessions: int = 0
    sockets: int = 0


class NoHeir(msgspec.Struct, array_like=True, frozen=True, tag=9):
    why: Text


FromPredecessor = RunGiven | CopiesAhead | Sockets | Bequests | AllSaid | LastWord | NoHeir
FromHeir = HeirHello | Took | Holdings | NoHeir
encode = msgspec.msgpack.Encoder().encode
_from_predecessor: msgspec.msgpack.Decoder[FromPredecessor] = msgspec.msgpack.Decoder(FromPredecessor)
_from_heir: msgspec.msgpack.Decoder[FromHeir] = msgspec.msgpack.Decoder(FromHeir)


def decode_from_predecessor(data: bytes) -> FromPredecessor:
    """Raises `BadInput`."""
    return decoded(_from_predecessor.decode, data, "message of the predecessor")


def decode_from_heir(data: bytes) -> FromHeir:
    """Raises `BadInput`."""
    return decoded(_from_heir.decode, data, "message of the heir")
