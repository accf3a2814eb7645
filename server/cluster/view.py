"""The view: the members a node believes in now, and a digest to compare views by. Pure.

The digest covers only what is fixed for one run of a member (node, incarnation, weight) and
its state; load and lag are carried beside it, so that slots do not churn with them, and so is the generation: a run
that goes on in another process is the same member.
"""

from typing import Literal

import msgspec
from xxhash import xxh3_64_intdigest

from server.cluster.slots import SlotTable, slot_table
from server.cluster.terms import Terms
from server.ids import Incarnation, NodeAddress, NodeId

MemberState = Literal["joining", "up", "leaving"]


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A node as gossip knows it. Endpoints are `host:port` or urls; `lag_ms` is loop lag; `since` is the wall time in
    seconds at which it came up, 0 where that is not told; `since_part_ms` are the milliseconds of that second.
    `generation`: how many processes the run has had before this one; `knows_heirs`: its program understands that a
    member goes on in another process."""

    node: NodeId
    incarnation: Incarnation
    weight: int
    state: MemberState
    transport: str
    client_url: str
    admin_url: str
    load: int = 0
    lag_ms: int = 0
    suspect: bool = False
    terms: Terms = Terms()
    since: int = 0
    since_part_ms: int = 0
    generation: int = 0
    knows_heirs: bool = False

    @property
    def since_ms(self) -> int:
        """Wall time in milliseconds at which it came up: two nodes that are started one after the other may well come
        up in one second."""
        return 1000 * self.since + self.since_part_ms

    @property
    def address(self) -> NodeAddress:
        return NodeAddress(self.node, self.incarnation)


class View:
    """Members by node, their digest and slot table. Only `up` members own slots."""

    def __init__(self, members: tuple[Member, ...], table: SlotTable | None = None) -> None:
        self.members = {member.node: member for member in sorted(members, key=lambda m: m.node)}
        self.addresses = {member.address: member for member in self.members.values()}
        fixed = [(m.node, m.incarnation, m.weight, m.state) for m in self.members.values()]
        self.digest = xxh3_64_intdigest(msgspec.msgpack.encode(fixed))
        owners = tuple((m.address, m.weight) for m in self.members.values() if m.state == "up")
        self.table = table if table is not None and table.owners == owners else slot_table(owners, table)

    def follow(self, members: tuple[Member, ...]) -> "View":
        """The view of `members`; the slot table is kept if the owners are the same."""
        return View(members, self.table)

    def has(self, address: NodeAddress) -> bool:
        return address in self.addresses
