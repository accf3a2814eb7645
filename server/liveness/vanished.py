"""Members that went out of the view without a goodbye, and since when. Pure: takes `now`.

They may be dead, or alive and cut off, and then renew their leases in the store all the same: those
are the members that a majority evicts (`undertaker.py`).
"""

from collections.abc import Iterable

from server.cluster.view import View
from server.ids import NodeAddress


class Vanished:
    """Missing members. A member that is seen again, or is missing for `forget_s`, is none any more."""

    def __init__(self, forget_s: float) -> None:
        self._forget_s = forget_s
        self._since: dict[NodeAddress, float] = {}

    def follow(self, before: View, after: View, now: float) -> None:
        """Note who is missing since the view changed from `before` to `after`. A newer incarnation of a node
        says that the earlier one is over: nobody needs to be evicted."""
        for member in before.members.values():
            if member.node not in after.members and member.state != "leaving":
                self._since.setdefault(member.address, now)
        self._since = {
            address: at
            for address, at in self._since.items()
            if address.node not in after.members and now < at + self._forget_s
        }

    def ages(self, now: float) -> list[tuple[NodeAddress, float]]:
        """The missing members, with the seconds for which each has been missing."""
        return [(address, now - at) for address, at in sorted(self._since.items())]

    def take(self, ages: Iterable[tuple[NodeAddress, float]], now: float) -> None:
        """Go on from the `ages` of another process of this run."""
        self._since = {address: now - age for address, age in ages}

    def for_longer_than(self, age_s: float, now: float) -> list[NodeAddress]:
        """Members that have been missing for `age_s` or longer, in order of their addresses."""
        return sorted(address for address, at in self._since.items() if age_s <= now - at < self._forget_s)
