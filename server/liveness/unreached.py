"""Nodes that hold a live lease in this node's store and that gossip does not reach. Pure: takes `now`.

They work on the same rows and own the same slots as this node: a wrong seed, key or cluster name.
A node that was killed keeps its lease for a part of a period, and a node that starts is not in gossip
yet: only a node that goes on for longer is told.
"""

from collections.abc import Mapping, Sequence

from server.ids import Incarnation, NodeAddress, NodeId
from server.liveness.ports import NodeRow


class Unreached:
    """`nodes` are those out of reach now, in order of their addresses, after `least_s` of it. A step between
    two looks counts as at most `longest_step_s`: a look that comes late says that this node slept."""

    def __init__(self, least_s: float, longest_step_s: float) -> None:
        self._least_s, self._longest_step_s = least_s, longest_step_s
        self._for_s: dict[NodeAddress, float] = {}
        self._looked_at: float | None = None
        self.nodes: tuple[NodeAddress, ...] = ()

    def follow(self, rows: Sequence[NodeRow], known: Mapping[NodeId, Incarnation], now: float) -> bool:
        """Compare the store's `rows` with the nodes that gossip knows (this one included); returns whether
        `nodes` changed."""
        before, step_s = self.nodes, 0.0
        if self._looked_at is not None:
            step_s = min(now - self._looked_at, self._longest_step_s)
        self._looked_at = now
        live = sorted(
            NodeAddress(row.node, row.incarnation)
            for row in rows
            if row.state == "up" and row.lease_left_s > 0 and known.get(row.node, Incarnation(-1)) < row.incarnation
        )
        self._for_s = {at: self._for_s[at] + step_s if at in self._for_s else 0.0 for at in live}
        self.nodes = tuple(at for at in live if self._for_s[at] > self._least_s)
        return self.nodes != before

    def reset(self) -> None:
        """Begin anew: this node did not judge for a while."""
        self._for_s, self._looked_at, self.nodes = {}, None, ()
