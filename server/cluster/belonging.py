"""Whether a node belongs to the cluster that it hears, and what follows from that over time. Pure: it is told the time.

    not served yet    it waits: for as long as it is refused, and at first where the run before it was foreign
    serves            refused for `FOREIGN_S`, its run ends; its successor is *wary*

`foreign.py` says who refuses whom, `agreement.py` what else nodes must have in common.
"""

from collections.abc import Callable
from typing import Final

from server.cluster import agreement, foreign
from server.cluster.foreign import Stand
from server.cluster.view import Member

FOREIGN_S: Final = 3.0
"""Time for which a node that serves must hear that it does not belong to the cluster before it ends: news travels."""
WARY_S: Final = 10.0
"""Time for which the successor of such a node listens before it serves: gossip may need a while to find the others."""


class Belonging:
    """See the module's head. `me`: the node as it tells itself in gossip, None before it does; `serves`: whether it has
    begun to serve. Times are those of the boot clock."""

    def __init__(self, me: Callable[[], Member | None], serves: Callable[[], bool]) -> None:
        self._me, self._serves = me, serves
        self._stand = Stand()
        self._wary_until = float("-inf")
        self._refused_at: float | None = None
        """Time since which this node, which serves, hears that it does not belong to the cluster."""

    def hear(self, heard: tuple[Member, ...]) -> tuple[Member, ...]:
        """Take in the members that gossip hears. Returns those that agree with this node, itself included."""
        me = self._me()
        self._stand = foreign.stand(me, heard) if me is not None else Stand(heard)
        return self._stand.own

    def be_wary(self, now: float) -> None:
        """Only listen for a while: the run before this one did not belong to the cluster that it heard."""
        self._wary_until = now + WARY_S

    def may_serve(self, now: float) -> bool:
        """Whether this node belongs to the cluster that it hears, as far as it knows."""
        return not self._stand.refused and not self.refused_newcomer() and now >= self._wary_until

    def is_over(self, up: bool, now: float) -> bool:
        """Whether this node, which serves, has been refused for so long that its run ends. `up`: it does not leave
        anyway."""
        if not self._stand.refused or not up:
            self._refused_at = None
        elif self._refused_at is None:
            self._refused_at = now
        else:
            return now >= self._refused_at + FOREIGN_S
        return False

    # ---- as sentences for people; empty where there is nothing to say ----

    @property
    def refused(self) -> str:
        """The reason why this node must not serve, whether it does or not."""
        return self._stand.refused

    def foreign_nodes(self) -> str:
        """Gossip hears nodes that do not belong to one cluster with this one; either it or they do not serve."""
        return self._stand.refused or self._stand.ignored

    def refused_newcomer(self) -> str:
        """The reason why this node must not begin to serve, beside terms that differ."""
        me = self._me()
        if me is None or self._serves():
            return ""
        return agreement.newcomer_refused(me, self._stand.own)

    def disagreement(self) -> str:
        """Members differ in what is no reason for a split, such as a version of the application."""
        me = self._me()
        if me is None:
            return ""
        return self.refused_newcomer() or agreement.disagreement(me, self._stand.own)
