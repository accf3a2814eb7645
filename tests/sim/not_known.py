"""A bound on pictures that are not known: "unknown" is an honest word for a while, and none for ever.

While there is trouble nobody may be able to say how a player looks. Once all of it is over whoever watches knows again
within failover time and a tick: the silence until a node counts as gone, the lease of who died, and what an owner of
slots has to hear before it answers (docs/guarantees.md).
"""

from collections.abc import Hashable, Iterable


class NotKnown:
    """The time since which each picture is not known, counted from the end of all trouble. `most_s`: how long that may
    last."""

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self.worst_s = 0.0
        self._since: dict[Hashable, float] = {}
        self._calm_at: float | None = None

    def calm(self, now: float) -> None:
        """Begin to count: no trouble comes any more."""
        self._calm_at = now

    def look(self, unknown: Iterable[Hashable], now: float) -> list[str]:
        """Take in all pictures that are not known now. Those that have not been for too long, in words."""
        self._since = {picture: self._since.get(picture, now) for picture in unknown}
        if self._calm_at is None:
            return []
        lasted = {picture: now - max(since, self._calm_at) for picture, since in self._since.items()}
        self.worst_s = max(self.worst_s, *lasted.values(), 0.0)
        return [
            f"{picture} is not known for more than {self.most_s} s, though all is whole"
            for picture, lasted_s in lasted.items()
            if lasted_s > self.most_s
        ]
