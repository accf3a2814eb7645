"""Nodes that hold a live lease in this node's store and that gossip does not reach. Pure: takes `now`.

They work on the same rows and own the same slots as this node: a wrong seed, key or cluster name.
A node that was killed keeps its lease for a part of a period, and one that starts is not in gossip
yet: only who goes on for longer is told.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from server.ids import Incarnation, NodeAddress, NodeId
from server.storage.ports import NodeRow

LOOK_S: Final = 2.0
"""How often the store is asked."""
LEAST_S: Final = 5.0
"""How long a live lease must have gone on unknown to gossip, and at least two of its periods."""


class Unreached:
    """`nodes` are those that are out of reach now, in order of their addresses."""

    def __init__(self, lease_period_s: float) -> None:
        self._least_s = max(LEAST_S, 2 * lease_period_s)
        self._for_s: dict[NodeAddress, float] = {}
        self._looked_at: float | None = None
        self.nodes: tuple[NodeAddress, ...] = ()

    def follow(self, rows: Sequence[NodeRow], known: Mapping[NodeId, Incarnation], now: float) -> bool:
        """The store says `rows`, gossip knows `known` (this node included); whether `nodes` changed.
        A look that comes late counts as one that came in time: it was this node that slept."""
        before, since_s = self.nodes, 0.0
        if self._looked_at is not None:
            since_s = min(now - self._looked_at, 2 * LOOK_S)
        self._looked_at = now
        live = sorted(
            NodeAddress(row.node, row.incarnation)
            for row in rows
            if row.state == "up" and row.lease_left_s > 0 and known.get(row.node, Incarnation(-1)) < row.incarnation
        )
        self._for_s = {at: self._for_s[at] + since_s if at in self._for_s else 0.0 for at in live}
        self.nodes = tuple(at for at in live if self._for_s[at] > self._least_s)
        return self.nodes != before

    def forget(self) -> None:
        """This node no longer judges."""
        self._for_s, self._looked_at, self.nodes = {}, None, ()
