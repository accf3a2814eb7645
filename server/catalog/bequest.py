"""An actor system as it goes over to the heir of its node, beside its activations and its directory: numbers that never
go back, and notes that nothing else would tell. Pure.

    claims       newest token                   a claim with an older one loses to it, in the store
    migrations   newest number, away            a target knows a migration by sender and number
                 those over to this node        an offer with a known number is refused
    guards, sources                             numbers of what watching nodes compare
    orphans      whom to wake again             the store names them to nobody (`server/catalog/orphans.py`)
    runs over    missing runs, looks to come    planned at a change of the view (`server/catalog/runs_over.py`)

Other numbers that somebody compares go over elsewhere: those of reminders, latest topics, looks and guards of one
activation with its parcel; of words, handoffs and questions with the directory; stints and words with presence; of
pushes with their session; counters of metrics with the metrics. Begun anew are those whose other end begins anew too:
requests of links, which are dialled again; the journal's, which is another one; files of columns, which name their
process. Nobody compares the order of open facts (`server/activations/open_facts.py`) with another one.

Times are seconds that are left, or that have passed.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from server.ids import ActorId, NodeAddress
from server.wire.codec import decoded

MOST: Final = 100_000
Number = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=-1e9, le=1e9)]


class SystemBequest(msgspec.Struct, array_like=True, frozen=True):
    """See the module's head."""

    me: NodeAddress
    token: Number
    migration: Number
    migrations_here: Annotated[list[tuple[NodeAddress, Number]], Meta(max_length=MOST)]
    guard: Number
    source: Number
    unsure: Annotated[list[ActorId], Meta(max_length=MOST)]
    missing: Annotated[list[tuple[NodeAddress, Seconds]], Meta(max_length=MOST)]
    looks: Annotated[list[Seconds], Meta(max_length=MOST)]


encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(SystemBequest)


def decode(data: bytes) -> SystemBequest:
    """Raises `BadInput` for anything but a bequest, whole and plausible."""
    return decoded(_decoder.decode, data, "an actor system that goes over")
