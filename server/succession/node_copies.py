"""Everything of a node as it is copied to its heir: activations, sessions with their sockets, and what other parts have
much of.

    begin        from here on changes are noted
    copy_ahead   while the node serves: everything once, then what was touched meanwhile, until little is left
    copy_rest    in the frozen stretch: what is left. It awaits nothing

What the heir inherits is sorted by the slots of one view: with another one it would be of no use.
"""

import asyncio
from collections.abc import Sequence

import structlog

from server.errors import Unavailable
from server.ids import ActorId
from server.node import Node
from server.succession import messages
from server.succession.asked_heir import AskedHeir
from server.succession.copying import CopiedActivations
from server.succession.copying_sessions import CookieOf, CopiedSessions
from server.succession.limits import SuccessionLimits
from server.succession.messages import CopiesAhead, Holdings, Sockets

log = structlog.get_logger(__name__)


class NodeCopies:
    """See the module's head."""

    def __init__(self, node: Node, cookie_of: CookieOf, limits: SuccessionLimits) -> None:
        self._node, self._limits = node, limits
        self.activations = CopiedActivations(node.system)
        self.sessions = CopiedSessions(node.gateway, cookie_of)
        self._digest = 0
        """The digest of the view that the heir was told."""

    def __len__(self) -> int:
        """How many activations and sessions the heir has."""
        return len(self.activations) + len(self.sessions)

    def begin(self, digest: int) -> None:
        """Note changes. `digest`: of the view that the heir was told."""
        self._digest = digest
        self.activations.begin()
        self.sessions.begin()

    def end(self) -> None:
        """Note no changes any more. Idempotent."""
        self.sessions.end()
        self._node.system.directory.end_copying()
        if self._node.presence is not None:
            self._node.presence.end_copying()
        self._node.gateway.going_over.end_copying()
        self.activations.end()

    def check_view(self) -> None:
        """Raises `Unavailable` once the view is another than the heir was told."""
        if self._node.system.view.digest != self._digest:
            raise Unavailable("nodes came, left or began to leave meanwhile: ask again")

    def holdings(self, attached: Sequence[str]) -> Holdings:
        """The holdings that the heir is to have, with the connections of `attached`."""
        return Holdings(len(self.activations), self.activations.digest, len(self.sessions), len(attached))

    # ---- while this node serves ----

    async def copy_ahead(self, heir: AskedHeir) -> None:
        """Copy everything, then what was touched meanwhile, until little is left."""
        activations, sessions = self.activations, self.sessions
        for round_ in range(self._limits.rounds):
            self.check_view()
            await self._store_what_waits()
            activations.touched_again()
            sessions.touched_again()
            left = activations.waiting + sessions.waiting
            if round_ and left <= self._limits.few:
                return
            log.debug("copied ahead", round=round_, left=left)
            while activations.waiting:
                if not await self._copy_activations(heir):
                    break  # all that wait are in a turn
            while sessions.waiting:
                await self._copy_sessions(heir)
            await self._copy_parts(heir)
            await self.send_sockets(heir)

    async def _store_what_waits(self) -> None:
        await self._node.write_behind.flush()
        await self._node.pipeline.group_commit.commit()

    async def _copy_activations(self, heir: AskedHeir) -> bool:
        """Copy a slice; returns whether anything could be, or is still to be found."""
        parcels, gone = self.activations.slice(self._limits.slice)
        if parcels or gone:
            await heir.ask(self._copies(parcels, gone))
        await asyncio.sleep(0)
        return bool(parcels or gone or not self.activations.swept)

    async def _copy_sessions(self, heir: AskedHeir) -> None:
        found, gone = self.sessions.slice(self._limits.slice)
        if found or gone:
            took = await heir.ask(self._copies(sessions=found, sessions_gone=gone))
            self.sessions.unreadable(took.unreadable)
        await asyncio.sleep(0)

    async def _copy_parts(self, heir: AskedHeir) -> None:
        """Copy what other parts have so much of that it would not do while this node rests."""
        directory, presence = self._node.system.directory, self._node.presence
        while some := directory.copy_ahead():
            await heir.ask(self._copies(directory=some))
        while presence is not None and (some := presence.copy_ahead()):
            await heir.ask(self._copies(presence=some))
        while some := self._node.gateway.going_over.copy_ahead():
            await heir.ask(self._copies(gateway=some))

    async def send_sockets(self, heir: AskedHeir) -> None:
        """Send the sockets of connections that the heir has not yet."""
        found = self.sessions.new_sockets()
        for start in range(0, len(found), self._limits.sockets):
            some = found[start : start + self._limits.sockets]
            named = Sockets([(it.token, it.cookie) for it in some])
            await heir.ask(named, [it.descriptor for it in some])
            self.sessions.sent(some)

    def _copies(
        self,
        parcels: Sequence[bytes] = (),
        gone: Sequence[ActorId] = (),
        sessions: Sequence[bytes] = (),
        sessions_gone: Sequence[str] = (),
        directory: bytes = b"",
        presence: bytes = b"",
        gateway: bytes = b"",
    ) -> CopiesAhead:
        at = self._node.clock.boot()
        named = (list(parcels), list(gone), list(sessions), list(sessions_gone))
        return CopiesAhead(at, *named, directory, presence, gateway)

    # ---- frozen: nothing below awaits ----

    def copy_rest(self, heir: AskedHeir) -> None:
        """Copy what is left. Raises `Unavailable` where that cannot be all."""
        activations, sessions = self.activations, self.sessions
        activations.touched_again()
        sessions.touched_again()
        while activations.waiting or sessions.waiting:
            parcels, gone = activations.slice(messages.MOST_PARCELS)
            if activations.swept and activations.waiting and not parcels:
                activations.leave_the_rest_to_store()
            found, sessions_gone = sessions.slice(messages.MOST_PARCELS)
            took = heir.ask_frozen(self._copies(parcels, gone, found, sessions_gone))
            sessions.unreadable(took.unreadable)
        heir.ask_frozen(self._copies(gone=activations.take_gone(), sessions_gone=sessions.take_gone()))
        if activations.missing:
            raise Unavailable(f"{activations.missing} activations were not copied")
