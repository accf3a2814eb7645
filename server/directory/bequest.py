"""The directory as it goes over to the heir of its node (docs/succession.md): structs, and their bytes. Pure.

Times are seconds that are left; negative ones are over. Entries and listers, which may be very many, are copied ahead
in slices while the predecessor serves (`going_over.py`); what has changed since goes with the rest.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from server.directory.messages import Handoff
from server.ids import SLOT_COUNT, ActorId, NodeAddress
from server.wire.codec import decoded

MAX_PEERS: Final = 10_000
MAX_IDS: Final = 4_000_000
SLICE: Final = 2_000
"""Entries or listers in a slice that is copied ahead, at most."""
Number = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=-1e9, le=1e9)]
Peers = Annotated[list[NodeAddress], Meta(max_length=MAX_PEERS)]
Ids = Annotated[list[ActorId], Meta(max_length=MAX_IDS)]
Claims = Annotated[dict[ActorId, bool], Meta(max_length=MAX_IDS)]
Taken = Annotated[list[tuple[NodeAddress, list[Number]]], Meta(max_length=MAX_PEERS)]
"""Numbers of handoffs by giver."""
SlotSet = Annotated[bytes, Meta(max_length=SLOT_COUNT // 8)]


class EntriesGone(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Entries of the partition by where the activation lives, and those that are no more."""

    entries: Annotated[list[tuple[NodeAddress, Ids]], Meta(max_length=MAX_IDS)]
    gone: Ids


class ListersGone(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Activations here by the peers that may list them, and those that nobody lists any more."""

    listed: Annotated[list[tuple[Peers, Ids]], Meta(max_length=MAX_IDS)]
    gone: Ids


class FrozenBequest(msgspec.Struct, array_like=True, frozen=True):
    """A handoff that has not arrived; see `FrozenSlots`."""

    number: Number
    slots: SlotSet
    unsure: SlotSet
    entries: Annotated[list[tuple[NodeAddress, Ids]], Meta(max_length=MAX_IDS)]
    digest: Number
    tries: Number
    wait_s: Seconds


class StreamBequest(msgspec.Struct, array_like=True, frozen=True):
    """A stream to a peer; see `Stream`. A word under way is taken back: it goes again under a new number."""

    peer: NodeAddress
    truth: Claims
    later: Claims
    listed: Ids
    unlisted: Ids
    asks: Annotated[dict[Number, SlotSet], Meta(max_length=MAX_IDS)]
    told: Annotated[list[Number], Meta(max_length=MAX_IDS)]
    frozen: Annotated[list[FrozenBequest], Meta(max_length=MAX_IDS)]
    afresh: bool
    attempt: Number
    refusals: Number
    wait_s: Seconds
    later_wait_s: Seconds


class QuestionBequest(msgspec.Struct, array_like=True, frozen=True):
    """An open question; see `Questions`. `ask_s` is None where no handoff is awaited."""

    number: Number
    slots: SlotSet
    blocking: SlotSet
    giver: NodeAddress | None
    block_s: Seconds
    ask_s: Seconds | None
    left: Peers


class EarlyBequest(msgspec.Struct, array_like=True, frozen=True):
    """A handoff that came before its time."""

    giver: NodeAddress
    handoff: Handoff
    size: Number
    left_s: Seconds


class DirectoryBequest(msgspec.Struct, array_like=True, frozen=True):
    """See `HandoffCore`. `newest`: of each node the run and number of the newest word that was taken."""

    me: NodeAddress
    digest: Number
    number: Number
    newest: Annotated[list[tuple[NodeAddress, Number]], Meta(max_length=MAX_PEERS)]
    met: Peers
    streams: Annotated[list[StreamBequest], Meta(max_length=MAX_PEERS)]
    last_question: Number
    questions: Annotated[list[QuestionBequest], Meta(max_length=MAX_IDS)]
    early: Annotated[list[EarlyBequest], Meta(max_length=1_000)]
    taken: Taken
    placed: Annotated[list[tuple[ActorId, NodeAddress, Seconds]], Meta(max_length=MAX_IDS)]
    entries: EntriesGone
    listers: ListersGone


encode = msgspec.msgpack.Encoder().encode
_bequest = msgspec.msgpack.Decoder(DirectoryBequest)
_ahead: msgspec.msgpack.Decoder[EntriesGone | ListersGone] = msgspec.msgpack.Decoder(EntriesGone | ListersGone)
WHAT: Final = "a directory that goes over"


def decode(data: bytes) -> DirectoryBequest:
    """Raises `BadInput` for anything but a bequest, whole and plausible."""
    return decoded(_bequest.decode, data, WHAT)


def decode_ahead(data: bytes) -> EntriesGone | ListersGone:
    """A slice that was copied ahead. Raises `BadInput`."""
    return decoded(_ahead.decode, data, WHAT)
