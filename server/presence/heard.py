"""All that a node has heard from one peer, in one stint of the peer's stream. Pure.

It is thrown away as a whole where the peer goes out of the view, and where it begins a new stint: then it tells all
anew, and until it has, this node is not sure of anything and answers nobody.
"""

from collections.abc import Iterator

from server.presence.messages import Order, ShownPlayer


class Heard:
    """See the module's head. `shown`: who is here by the peer's word; `interest`: whom it watches; `complete`: the
    digest of the view in which it has told all. `good_at`: when it last vouched, as the owner of slots, for what it
    answers; `trusted`: what it answered is believed now."""

    __slots__ = ("at", "complete", "good_at", "interest", "number", "shown", "stint", "trusted")

    def __init__(self, stint: int = 0) -> None:
        self.stint, self.number = stint, 0
        self.at = self.good_at = float("-inf")
        self.complete: int | None = None
        self.shown: dict[str, ShownPlayer] = {}
        self.interest: dict[str, None] = {}
        self.trusted = False

    def after(self, stint: int) -> "Heard":
        """The same peer in a new stint: as trustworthy as before, and nothing is known of it."""
        new = Heard(stint)
        new.at, new.good_at, new.trusted = self.at, self.good_at, self.trusted
        return new


class Floors:
    """Players who were hidden, with the order of that: whatever is older says nothing of them any more, however late
    it comes and whoever says it (a tombstone). Kept for a while; epochs are those of the store, so players of kinds
    that have none are not in it."""

    __slots__ = ("_most", "_new", "_old", "_turned_at")

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._new: dict[str, Order] = {}
        self._old: dict[str, Order] = {}
        self._turned_at = float("-inf")

    def raise_to(self, player: str, order: Order) -> None:
        """Let nothing of `player` up to `order` count any more."""
        if order[0]:
            self._new[player] = max(order, self.of(player))

    def of(self, player: str) -> Order:
        """The order up to which nothing counts."""
        return self._new.get(player) or self._old.get(player) or (0, 0)

    def items(self) -> Iterator[tuple[str, Order]]:
        """All of them, and the order of each."""
        yield from self._new.items()
        for player, order in self._old.items():
            if player not in self._new:
                yield player, order

    def age(self, now: float, kept_s: float) -> None:
        """Forget what is older than `kept_s` to twice that, or too much."""
        if now - self._turned_at >= kept_s or len(self._new) >= self._most:
            self._turned_at, self._old, self._new = now, self._new, {}
