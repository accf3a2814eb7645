"""Presence on its way to the heir of a node: what may be very much is copied ahead, in slices. Pure.

Who is shown elsewhere in this node's slots, whom other nodes watch there, and whom this node watches: nearly all of
that goes while the predecessor serves, and what has changed since goes with the bequest.
"""

from collections.abc import Mapping
from typing import Protocol

from server.ids import NodeAddress
from server.presence import bequest
from server.presence.bequest import HeardCopy
from server.presence.heard import Heard
from server.presence.watching import WatchedPlayers


class HeardPeer(Protocol):
    """A peer, and what was heard from it."""

    @property
    def heard(self) -> Heard: ...


class PresenceGoingOver:
    """See the module's head. The same class gives and takes. `own`: this node as the owner of slots."""

    def __init__(self, watching: WatchedPlayers, own: Heard, peers: Mapping[NodeAddress, HeardPeer]) -> None:
        self._watching, self._own, self._peers = watching, own, peers
        self._me: NodeAddress | None = None
        self._ahead: dict[NodeAddress, Heard] = {}
        """In the heir: what was heard from peers, as far as it was copied ahead."""

    def begin(self, me: NodeAddress) -> None:
        self._me = me

    # ---- the predecessor ----

    def owners(self) -> dict[object, NodeAddress]:
        """The owner of slots by what was heard from it, of those that count."""
        owners: dict[object, NodeAddress] = {peer.heard: address for address, peer in self._peers.items()}
        if self._me is not None:
            owners[self._own] = self._me
        return owners

    def copy_ahead(self, most: int = bequest.SLICE) -> bytes:
        """The next slice; empty once all is copied that has not changed since. Changes are noted from the first call
        on."""
        self._watching.ahead.begin(self._watching.entries)
        for address, peer in self._peers.items():
            peer.heard.begin_ahead()
            if players := peer.heard.ahead.take(most):
                return bequest.encode(peer.heard.copy(address, players))
        if players := self._watching.ahead.take(most):
            return bequest.encode(self._watching.copy(players, self.owners().get))
        return b""

    @property
    def to_copy(self) -> int:
        """Number of players that are to be copied, or have changed since they were."""
        return len(self._watching.ahead) + sum(len(peer.heard.ahead) for peer in self._peers.values())

    def end_copying(self) -> None:
        """Note no changes any more: there is no heir."""
        self._watching.ahead.end()
        for peer in self._peers.values():
            peer.heard.ahead.end()

    # ---- the heir ----

    def inherit_ahead(self, data: bytes, now: float) -> None:
        """Take a slice. Raises `BadInput`."""
        some = bequest.decode_ahead(data)
        if isinstance(some, HeardCopy):
            self.heard(some.peer, some.stint).take_copy(some)
        else:
            self._watching.take_copy(some, self.heard, now)

    def heard(self, address: NodeAddress, stint: int) -> Heard:
        """The memory of what a peer has said in `stint`, as far as it was copied ahead."""
        if address == self._me:
            return self._own
        heard = self._ahead.get(address)
        if heard is None or heard.stint != stint:
            heard = self._ahead[address] = Heard(stint)
        return heard

    def end(self) -> None:
        """All has been taken."""
        self._ahead.clear()
