"""Messages between directories. Pure: structs, and sets of slots as bytes.

`Word` is a message of the numbered stream from one node to another, `WordAnswer` its answer;
`Hint` goes one way, outside of the stream. Their meaning is told in `handoff.py`.
"""

from typing import Final, Literal

import msgspec
import numpy as np

from server.cluster.slots import Slots
from server.errors import BadInput
from server.ids import SLOT_COUNT, ActorId, Incarnation, NodeId

_SPARSE: Final = SLOT_COUNT // 16
"""Below so many slots, two bytes a slot are less than one bit for every slot."""
Verdict = Literal["", "done", "held", "refused"]


class Handoff(msgspec.Struct, array_like=True, frozen=True):
    """Frozen slots with their entries, by the node where the activations are. `oldest`: the lowest
    number of a handoff to this receiver that is still under way. `digest`: the view under which
    the slots were frozen. `unsure`: those of `slots` for which the sender itself still waited."""

    number: int
    oldest: int
    digest: int
    slots: bytes
    unsure: bytes
    entries: list[tuple[NodeId, Incarnation, list[ActorId]]]


class Word(msgspec.Struct, array_like=True, tag="word", frozen=True):
    """A message of the stream. `born`, `gone`: activations that are, and no longer are, with the sender.
    `claimed`: born, and to be registered whatever is registered now. `listed`: actors that the sender lists at
    the receiver; `unlisted`: actors that it does not list there although somebody said so. `asks`: what do you
    have in these slots, by question number; `told`: questions of the receiver to which all has been said.
    `afresh`: forget what the sender ever said was with it, this word says it again."""

    number: int
    digest: int
    born: list[ActorId] = []
    claimed: list[ActorId] = []
    gone: list[ActorId] = []
    listed: list[ActorId] = []
    unlisted: list[ActorId] = []
    asks: list[tuple[int, bytes]] = []
    told: list[int] = []
    handoff: Handoff | None = None
    afresh: bool = False


class WordAnswer(msgspec.Struct, array_like=True, frozen=True):
    """The answer to a `Word`. `refused`: births in slots that are not the receiver's in its view,
    whose digest this is; `rivals`: births of what is registered elsewhere, and where."""

    digest: int
    refused: list[ActorId] = []
    rivals: list[tuple[ActorId, NodeId, Incarnation]] = []
    handoff: Verdict = ""


class Hint(msgspec.Struct, array_like=True, tag="hint", frozen=True):
    """Somebody looked for `id` at that address and it was not there."""

    id: ActorId
    node: NodeId
    incarnation: Incarnation


def pack(slots: Slots) -> bytes:
    """A set of slots as bytes, at most 8 KiB."""
    if len(slots) < _SPARSE:
        return slots.astype("<u2").tobytes()
    bits = np.zeros(SLOT_COUNT, dtype=np.bool_)
    bits[slots] = True
    return np.packbits(bits).tobytes()


def unpack(data: bytes) -> Slots:
    """The slots in `data`, ascending. Raises `BadInput`."""
    if len(data) == SLOT_COUNT // 8:
        return np.flatnonzero(np.unpackbits(np.frombuffer(data, dtype=np.uint8)))
    if len(data) >= 2 * _SPARSE or len(data) % 2:
        raise BadInput("directory: a set of slots has the wrong size")
    return np.unique(np.frombuffer(data, dtype="<u2").astype(np.intp))
