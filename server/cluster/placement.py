"""Placement: the choice of a node for a new activation, a pure function of the view. A strategy sees the
view, the slot's owner and the caller, and decides nothing else."""

from server.cluster.view import View
from server.ids import NodeAddress


def place(strategy: str, view: View, owner: NodeAddress, caller: NodeAddress) -> NodeAddress:
    """The node for a new activation. `hash`: the slot's owner; `local`: the caller;
    `least_loaded`: the `up` member with the least load for its weight (ties by name). A node
    that is not up is never chosen; the slot's owner stands in for it."""
    if strategy == "local":
        member = view.addresses.get(caller)
        return caller if member is not None and member.state == "up" else owner
    if strategy == "least_loaded":
        up = [member for member in view.members.values() if member.state == "up" and not member.suspect]
        best = min(up, key=lambda member: (member.load / member.weight, member.node), default=None)
        return best.address if best is not None else owner
    return owner
