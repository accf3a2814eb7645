"""Peers that may list activations of this node, and so hear of an end also where the slot is another's then. Pure."""

from collections.abc import Callable, Iterable, Iterator

from server.directory.bequest import ListersGone
from server.ids import ActorId, NodeAddress
from server.runtime.ahead import Ahead


class Listers:
    """Peers by activation of this node."""

    def __init__(self) -> None:
        self._peers: dict[ActorId, tuple[NodeAddress, ...]] = {}
        self.ahead: Ahead[ActorId] = Ahead()
        """Activations whose peers go over to the heir of this node."""

    def note(self, identities: Iterable[ActorId], peer: NodeAddress) -> None:
        """Remember that `peer` may list these activations."""
        for identity in identities:
            known = self._peers.get(identity, ())
            if peer not in known:
                self._peers[identity] = (*known, peer)
                if self.ahead.noting:
                    self.ahead.note(identity)

    def pop(self, identity: ActorId) -> tuple[NodeAddress, ...]:
        """The peers that may list an activation, which has ended."""
        if self.ahead.noting:
            self.ahead.note(identity)
        return self._peers.pop(identity, ())

    def keep(self, is_member: Callable[[NodeAddress], bool]) -> Iterator[tuple[ActorId, tuple[NodeAddress, ...]]]:
        """Forget peers that are no members any more. Gives each activation that one of them may have listed, with the
        peers that are left."""
        before, self._peers = self._peers, {}
        for identity, peers in before.items():
            left = tuple(filter(is_member, peers))
            if left:
                self._peers[identity] = left
            if len(left) < len(peers):
                if self.ahead.noting:
                    self.ahead.note(identity)
                yield identity, left

    # ---- going over ----

    def __iter__(self) -> Iterator[ActorId]:
        return iter(self._peers)

    def copy(self, identities: Iterable[ActorId]) -> ListersGone:
        """The peers that may list `identities`, as they are now."""
        by_peers: dict[tuple[NodeAddress, ...], list[ActorId]] = {}
        for identity in identities:
            by_peers.setdefault(self._peers.get(identity, ()), []).append(identity)
        gone = by_peers.pop((), [])
        return ListersGone([(list(peers), some) for peers, some in by_peers.items()], gone)

    def take_copy(self, copy: ListersGone) -> None:
        """Take what the predecessor remembers."""
        for peers, identities in copy.listed:
            self._peers.update(dict.fromkeys(identities, tuple(peers)))
        for identity in copy.gone:
            self._peers.pop(identity, None)
