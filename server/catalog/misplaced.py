"""Misplaced activations: those that live here and belong elsewhere. Pure.

A hash-placed actor belongs to the owner of its slot; the others may live anywhere, and on a node that is leaving
nothing is at home.
"""

from collections.abc import Iterable
from itertools import islice

from server.activations.activation import Activation
from server.catalog.services import CurrentView
from server.cluster.placement import place
from server.ids import ActorId, NodeAddress
from server.runtime.metrics import Metrics


class Misplaced:
    """The misplaced activations of this node, in the order in which they are to move."""

    def __init__(self, current: CurrentView, metrics: Metrics) -> None:
        self._current, self._metrics = current, metrics
        self._ids: dict[ActorId, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, identity: ActorId) -> bool:
        return identity in self._ids

    def home(self, activation: Activation) -> NodeAddress:
        """The node where `activation` should live; this one if there is nowhere else."""
        current = self._current
        strategy, owner = type(activation.actor).placement, current.owner(activation.id)
        if owner is None or strategy == "hash":
            return owner or current.me
        return place(strategy, current.view, owner, current.me) if current.is_leaving else current.me

    def consider(self, activation: Activation) -> None:
        """Note `activation` if it belongs elsewhere."""
        if self.home(activation) != self._current.me:
            self._ids[activation.id] = None

    def on_view(self, activations: Iterable[Activation]) -> None:
        """Begin anew after a change of the view: `activations` are all that live here."""
        self._ids.clear()
        for activation in activations:
            self.consider(activation)
        self.observe()

    def take(self, count: int) -> list[ActorId]:
        """Take out the first `count`."""
        taken = list(islice(self._ids, count))
        for identity in taken:
            del self._ids[identity]
        return taken

    def observe(self) -> None:
        """Bring the gauge up to date."""
        self._metrics.misplaced = len(self._ids)
