"""Peers that may list activations of this node, and so hear of an end also where the slot is another's then. Pure."""

from collections.abc import Callable, Iterable, Iterator

from server.ids import ActorId, NodeAddress


class Listers:
    """Peers by activation of this node."""

    def __init__(self) -> None:
        self._peers: dict[ActorId, tuple[NodeAddress, ...]] = {}

    def note(self, identities: Iterable[ActorId], peer: NodeAddress) -> None:
        """Remember that `peer` may list these activations."""
        for identity in identities:
            known = self._peers.get(identity, ())
            if peer not in known:
                self._peers[identity] = (*known, peer)

    def pop(self, identity: ActorId) -> tuple[NodeAddress, ...]:
        """The peers that may list an activation, which has ended."""
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
                yield identity, left
