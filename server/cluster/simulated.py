"""Membership's simulated twin: gossip between nodes of one process that can lag, split and lie.

A `SimulatedGossip` is the world: it holds what is true of every node and tells it to the others
through the running loop's `call_at`, each in its own context, so it works on virtual time.
What a node believes may be old (`delay`), partial (`split`), or wrong (`lie`). A node that
crashes is suspected after half of `detect_s` and dead after it; a node whose silence ends is
back after one delay, and, as with the real thing, hears nothing of its own absence.
"""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Final

import msgspec

from server.cluster.view import Member
from server.errors import BadInput, Unavailable
from server.ids import NodeAddress, NodeId

Delay = Callable[[NodeId, NodeId], float | None]
DEFAULT_DELAY_S: Final = 0.05
DETECT_S: Final = 1.5


def steady(_frm: NodeId, _to: NodeId) -> float | None:
    """The delay of news between any two nodes, in seconds; None would mean that none passes."""
    return DEFAULT_DELAY_S


class SimulatedGossip:
    """`delay` may be replaced at any time. News that `delay` swallows is told again every
    `retry_s` until it passes or is overtaken."""

    def __init__(self, delay: Delay = steady, detect_s: float = DETECT_S, retry_s: float = 0.2) -> None:
        self.delay, self.detect_s, self.retry_s = delay, detect_s, retry_s
        self.carried_s = 2 * detect_s
        """Time for which members that an heir was told of count as heard."""
        self._nodes: dict[NodeId, SimulatedMembership] = {}
        self._truth: dict[NodeId, tuple[int, Member]] = {}  # version and member of all who run
        self._sides: tuple[frozenset[NodeId], ...] = ()
        self._version = 0

    # acts of a test

    def crash(self, node: NodeId, of: "SimulatedMembership | None" = None) -> None:
        """End the node without a word; the others find out. `of`: that process of it, which nobody misses where its
        heir tells of the node by now."""
        if of is not None and self._nodes.get(node) is not of:
            of.stop()
            return
        gone = self._nodes.pop(node, None)
        self._truth.pop(node, None)
        if gone is None:
            return
        gone.stop()
        for observer in list(self._nodes.values()):
            self._silence(observer, node)

    def split(self, *sides: set[NodeId]) -> None:
        """News passes only within a side (and to and from nodes in no side) until `heal`. Each
        side finds the others dead after `detect_s`."""
        self._sides = tuple(frozenset(side) for side in sides)
        for observer in list(self._nodes.values()):
            for node in list(observer.known()):
                if not self._reach(node, observer.node):
                    self._silence(observer, node)

    def heal(self) -> None:
        """End a split: everybody tells everybody, after one delay."""
        self._sides = ()
        for observer in list(self._nodes.values()):
            for node in list(self._truth):
                self._tell(node, observer)

    def silence(self, observer: NodeId, node: NodeId) -> None:
        """From now on `observer` suspects `node`, and finds it dead after `detect_s`, until
        `node` next changes or `speak`. A failure detector that is wrong does this."""
        if (who := self._nodes.get(observer)) is not None:
            self._silence(who, node, falsely=True)

    def speak(self, observer: NodeId, node: NodeId) -> None:
        """`node` refutes what `observer` believes of it."""
        if (who := self._nodes.get(observer)) is not None and node in self._truth:
            self._renew(node)
            self._tell(node, who)

    def lie(self, observer: NodeId, node: NodeId, member: Member | None) -> None:
        """Make `observer` believe `member` of `node` (None: not there), whatever it hears,
        until `lie_no_more`."""
        if (who := self._nodes.get(observer)) is not None:
            who.lies[node] = member
            who.refresh()

    def lie_no_more(self, observer: NodeId) -> None:
        if (who := self._nodes.get(observer)) is not None:
            who.lies.clear()
            who.refresh()

    # acts of the memberships

    def runs(self, membership: "SimulatedMembership") -> bool:
        return self._nodes.get(membership.node) is membership

    def longest_delay(self, to: NodeId) -> float:
        """Seconds until all the news that is on its way to a new node has come."""
        return max((self.delay(node, to) or 0.0 for node in self._truth if node != to), default=0.0)

    def attach(self, membership: "SimulatedMembership", me: Member) -> None:
        """Let a node join, or come back as a new incarnation, or go on in its heir."""
        before = self._nodes.get(me.node)
        if before is not None:
            if before.address != me.address or before.generation >= me.generation:
                raise Unavailable(f"a node {me.node} runs already")
            before.stop()
            del self._nodes[me.node]
        others = list(self._nodes.values())
        self._nodes[me.node] = membership
        self._set(me)
        for other in others:
            self._tell(me.node, other)
            self._tell(other.node, membership)

    def tell_all(self, membership: "SimulatedMembership", me: Member) -> None:
        """Change what is true of a running node, and send the others the news."""
        if self._nodes.get(me.node) is not membership:
            return
        self._set(me)
        for other in list(self._nodes.values()):
            if other.node != me.node:
                self._tell(me.node, other)

    def detach(self, membership: "SimulatedMembership") -> None:
        """Let a node say goodbye: the others drop it after one delay, at the latest after
        `detect_s`."""
        node = membership.node
        if self._nodes.get(node) is not membership:
            return
        del self._nodes[node]
        del self._truth[node]
        self._version += 1
        for other in list(self._nodes.values()):
            delay = self.delay(node, other.node) if self._reach(node, other.node) else None
            after = self.detect_s if delay is None else delay
            self._later(after, other, other.forget, node, self._version)

    def _set(self, me: Member) -> None:
        self._version += 1
        self._truth[me.node] = (self._version, me)

    def _renew(self, node: NodeId) -> None:
        self._set(self._truth[node][1])

    def _reach(self, frm: NodeId, to: NodeId) -> bool:
        return not any(
            frm in side and any(to in other for other in self._sides if other is not side) for side in self._sides
        )

    def _tell(self, node: NodeId, observer: "SimulatedMembership") -> None:
        """Send what is true of `node` now."""
        if node == observer.node:
            return
        version, member = self._truth[node]
        delay = self.delay(node, observer.node) if self._reach(node, observer.node) else None
        if delay is None:
            if self._reach(node, observer.node):  # after a split, `heal` tells it again
                self._later(self.retry_s, observer, self._retell, node, version, observer)
            return
        self._later(delay, observer, self._deliver, version, member, observer)

    def _deliver(self, version: int, member: Member, observer: "SimulatedMembership") -> None:
        observer.hear(version, member)
        if member.node not in self._truth or not self._reach(member.node, observer.node):
            self._silence(observer, member.node)  # news that outlived its node, or the link

    def _retell(self, node: NodeId, version: int, observer: "SimulatedMembership") -> None:
        current = self._truth.get(node)
        if current is not None and current[0] == version and self._nodes.get(observer.node) is observer:
            self._tell(node, observer)

    def _silence(self, observer: "SimulatedMembership", node: NodeId, *, falsely: bool = False) -> None:
        """`observer` hears nothing more of `node`: suspect, then dead, unless news comes."""
        heard = observer.version(node)
        for after, verdict in ((self.detect_s / 2, observer.suspect), (self.detect_s, observer.forget)):
            self._later(after, observer, self._judge, observer, node, heard, verdict, falsely)

    def _judge(
        self,
        observer: "SimulatedMembership",
        node: NodeId,
        heard: int,
        verdict: Callable[[NodeId, int], None],
        falsely: bool,
    ) -> None:
        silent = falsely or node not in self._truth or not self._reach(node, observer.node)
        if silent and observer.version(node) == heard:
            verdict(node, heard)
        elif not silent and observer.version(node) == heard:
            observer.trust(node)

    def _later(self, after: float, observer: "SimulatedMembership", work: Callable[..., None], *args: object) -> None:
        asyncio.get_running_loop().call_later(after, work, *args, context=observer.context)


class SimulatedMembership:
    """The belief of one node; see `ports.Membership`."""

    def __init__(self, gossip: SimulatedGossip) -> None:
        self._gossip = gossip
        self._me: Member | None = None
        self._on_change: Callable[[], None] | None = None
        self._known: dict[NodeId, tuple[int, Member | None]] = {}  # None: gone, as of that version
        self._members: tuple[Member, ...] = ()
        self.lies: dict[NodeId, Member | None] = {}
        self.context = contextvars.copy_context()
        self._changes = 0
        self._carried: set[NodeId] = set()
        """Nodes that the predecessor knew and of which no news has come yet."""

    @property
    def node(self) -> NodeId:
        assert self._me is not None
        return self._me.node

    @property
    def address(self) -> NodeAddress:
        assert self._me is not None
        return self._me.address

    @property
    def generation(self) -> int:
        assert self._me is not None
        return self._me.generation

    def bequeath(self) -> bytes:
        """See `ports.Membership`."""
        known = [(version, member) for version, member in self._known.values() if member is not None]
        return msgspec.msgpack.encode(known)

    def inherit(self, data: bytes) -> None:
        """See `ports.Membership`."""
        try:
            known = msgspec.msgpack.decode(data, type=list[tuple[int, Member]])
        except msgspec.MsgspecError as error:
            raise BadInput(f"bequest of gossip: {error}") from None
        self._known = {member.node: (version, member) for version, member in known}
        self._carried = set(self._known)

    def _drop_carried(self) -> None:
        for node in sorted(self._carried):
            self.forget(node, self.version(node))
        self._carried.clear()

    async def start(self, me: Member, on_change: Callable[[], None]) -> None:
        """Join; the others' news comes with its delay, of which this waits for the longest."""
        self._me, self.context = me, contextvars.copy_context()
        self._gossip.attach(self, me)
        if self._carried:
            asyncio.get_running_loop().call_later(self._gossip.carried_s, self._drop_carried, context=self.context)
        self.refresh()
        await asyncio.sleep(self._gossip.longest_delay(me.node))
        self._on_change = on_change

    def members(self) -> tuple[Member, ...]:
        return self._members

    async def update(self, me: Member) -> None:
        if self._me is None:
            raise Unavailable("gossip is not running")
        if me != self._me:
            self._me = me
            self.refresh()
            self._gossip.tell_all(self, me)

    async def leave(self) -> None:
        if self._me is not None:
            self._gossip.detach(self)

    async def close(self) -> None:
        """Without `leave` before it the others see a crash."""
        if self._me is not None:
            if self._gossip.runs(self):
                self._gossip.crash(self._me.node)
            self.stop()

    def stats(self) -> dict[str, int]:
        return {"changes": self._changes}

    # for SimulatedGossip

    def stop(self) -> None:
        self._on_change = None
        self._carried.clear()

    def known(self) -> list[NodeId]:
        return [node for node, (_, member) in self._known.items() if member is not None]

    def version(self, node: NodeId) -> int:
        return self._known.get(node, (0, None))[0]

    def hear(self, version: int, member: Member) -> None:
        """News of a node; older than what is known is ignored."""
        self._carried.discard(member.node)
        if version >= self.version(member.node):
            self._known[member.node] = (version, member)
            self.refresh()

    def forget(self, node: NodeId, version: int) -> None:
        if version >= self.version(node):
            self._known[node] = (version, None)
            self.refresh()

    def suspect(self, node: NodeId, version: int) -> None:
        self._mark(node, True)

    def trust(self, node: NodeId) -> None:
        self._mark(node, False)

    def _mark(self, node: NodeId, suspect: bool) -> None:
        version, member = self._known.get(node, (0, None))
        if member is not None and member.suspect != suspect:
            self._known[node] = (version, msgspec.structs.replace(member, suspect=suspect))
            self.refresh()

    def refresh(self) -> None:
        """Compute `members` anew, and call `on_change` if they changed."""
        if self._me is None:
            return
        believed = {node: member for node, (_, member) in self._known.items()}
        believed.update(self.lies)
        believed[self._me.node] = self.lies.get(self._me.node) or self._me
        members = tuple(sorted((m for m in believed.values() if m is not None), key=lambda member: member.node))
        if members != self._members:
            self._members = members
            self._changes += 1
            if self._on_change is not None:
                self._on_change()
