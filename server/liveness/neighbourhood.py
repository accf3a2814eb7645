"""The neighbourhood: this node's view of the others, as judging needs it. It follows each view."""

from typing import Final

import msgspec

from server.cluster.view import View
from server.ids import NodeAddress
from server.liveness.vanished import Vanished
from server.runtime.clock import Clock
from server.settings import StoreSettings
from server.wire.codec import decoded

VANISHED_PERIODS: Final = 5
"""Lease periods after which a node that has vanished is dead in the store, or is seen again."""


class NeighbourhoodBequest(msgspec.Struct, frozen=True, array_like=True):
    """`missing`: members without a goodbye, with their ages in seconds; `alone_at`: a boot time of this machine."""

    missing: list[tuple[NodeAddress, float]]
    alone_at: float


_decode: Final = msgspec.msgpack.Decoder(NeighbourhoodBequest).decode


class Neighbourhood:
    """`server.liveness.ports.Neighbours` from the views of gossip; without gossip it judges nobody."""

    def __init__(self, settings: StoreSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._vanished = Vanished(VANISHED_PERIODS * settings.lease_period_s)
        self.view = View(())
        self.alone_at = 0.0

    def follow(self, view: View) -> None:
        """Take `view`, which may differ from the one before in load and suspicion only."""
        before, self.view = self.view, view
        if view.digest == before.digest:
            return
        self._vanished.follow(before, view, self._clock.now())
        if len(view.members) == 1 < len(before.members):
            self.alone_at = self._clock.boot()

    def bequeath(self) -> bytes:
        """Members that are missing, and when this node was alone last: an heir judges by it where its predecessor
        stopped."""
        now = self._clock.now()
        return msgspec.msgpack.encode(NeighbourhoodBequest(self._vanished.ages(now), self.alone_at))

    def inherit(self, data: bytes) -> None:
        """Go on from the predecessor's; before any view is followed. Raises `BadInput`."""
        bequest = decoded(_decode, data, "bequest of the neighbourhood")
        self._vanished.take(bequest.missing, self._clock.now())
        self.alone_at = bequest.alone_at

    def lively(self) -> list[NodeAddress]:
        """Nodes that answer gossip now, this one included."""
        return [member.address for member in self.view.members.values() if not member.suspect]

    def vanished(self) -> list[NodeAddress]:
        """Nodes that have been out of the view for `evict_after_s` without having said goodbye."""
        return self._vanished.for_longer_than(self._settings.evict_after_s, self._clock.now())
