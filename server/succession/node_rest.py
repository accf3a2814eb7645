"""The rest of a node before it is frozen: nothing new begins, what is under way ends, everything is stored.

    clients and sessions    nothing more is read, and no session is sent elsewhere
    activations             no timer rings, nothing is collected, moved or planned
    peers                   nothing more is read once no activation is on its way: both sides have to speak for that
    requests                those that have no answer in time are told that their outcome is unknown
    lease, store, journal   no renewal, no statement and no record is under way

The predecessor's caller gives it a deadline. Whatever was stopped goes on again, in the other order, where the
succession is called off.
"""

import asyncio
from contextlib import ExitStack

from server.node import Node
from server.succession.asked_heir import AskedHeir
from server.succession.limits import SuccessionLimits
from server.succession.node_copies import NodeCopies


class NodeRest:
    """See the module's head."""

    def __init__(self, node: Node, copies: NodeCopies, limits: SuccessionLimits) -> None:
        self._node, self._copies, self._limits = node, copies, limits

    async def come(self, undone: ExitStack, heir: AskedHeir) -> int:
        """Come to rest. Returns how many clients were told to come again, because their connections cannot go over.
        What was stopped goes on again when `undone` is closed."""
        node, drivers, limits = self._node, self._node.drivers, self._limits
        gateway = node.gateway.succession
        gateway.rest()
        undone.callback(gateway.go_on)
        node.system.hold()
        undone.callback(node.system.go_on)
        while node.system.moving:  # noqa: ASYNC110 - both sides have to speak until it is over; nobody tells when
            await asyncio.sleep(limits.look_s)
        drivers.transport.rest()
        undone.callback(drivers.transport.go_on)
        until = node.clock.now() + limits.requests_s
        while self._is_asked() and node.clock.now() < until:  # noqa: ASYNC110 - nobody tells when the last one ends
            await asyncio.sleep(limits.look_s)
        gateway.end_waiting()
        going = gateway.part_with_some().total()
        await self._copies.send_sockets(heir)
        await node.pause_renewing()
        undone.callback(node.resume_renewing)
        pipeline = node.pipeline
        while self.under_way():
            await pipeline.write_behind.flush()
            await pipeline.group_commit.commit()
            await asyncio.sleep(limits.look_s)
        return going

    def _is_asked(self) -> bool:
        """Whether a request of a client or a peer, or a call of an activation, has no answer yet."""
        node, system = self._node, self._node.system
        asked = node.gateway.succession.under_way or node.drivers.transport.under_way
        return bool(asked or system.under_way or system.unanswered)

    def under_way(self) -> str:
        """The reason why this node cannot be frozen yet; empty if there is none."""
        node = self._node
        if under_way := node.system.under_way:
            return under_way
        if (activation := self._copies.activations.not_at_rest()) is not None:
            return f"{activation.id} is not at rest"
        if waiting := len(node.write_behind):
            return f"{waiting} changed states are not stored"
        if backlog := node.pipeline.group_commit.backlog:
            return f"{backlog} log entries are not stored"
        if shipping := node.gateway.succession.shipping:
            return f"{shipping} shipments of sessions are under way"
        if node.drivers.store.under_way:
            return f"{node.drivers.store.under_way} statements are under way"
        journal = node.drivers.journal
        if journal is not None and journal.in_flight:
            return f"{journal.in_flight} records of the journal are under way"
        return ""
