"""Majority of live leases, the right to evict: one rule for every implementation of the store."""

from collections.abc import Collection

from server.ids import NodeAddress


def holds_majority(side: Collection[NodeAddress], live: Collection[NodeAddress]) -> bool:
    """Whether `side` has more than half of the nodes in `live`, or exactly half and among them
    the lowest address: of two sides that divide `live`, at most one does."""
    held = sum(1 for node in live if node in side)
    return 2 * held > len(live) or (2 * held == len(live) and held > 0 and min(live) in side)
