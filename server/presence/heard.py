"""All that a node has heard from one peer, in one stint of the peer's stream. Pure.

It is thrown away as a whole where the peer goes out of the view, and where it begins a new stint: then it tells all
anew, and until it has, this node is not sure of anything and answers nobody.
"""

from collections.abc import Iterable, Iterator

from server.ids import NodeAddress
from server.presence.bequest import FloorsBequest, HeardBequest, HeardCopy, ago
from server.presence.messages import Order, ShownPlayer
from server.runtime.ahead import Ahead


class Heard:
    """See the module's head. `shown`: who is here by the peer's word; `interest`: whom it watches; `complete`: the
    digest of the view in which it has told all. `good_at`: when it last vouched, as the owner of slots, for what it
    answers; `trusted`: what it answered is believed now."""

    __slots__ = ("ahead", "at", "complete", "good_at", "interest", "number", "shown", "stint", "trusted")

    def __init__(self, stint: int = 0) -> None:
        self.stint, self.number = stint, 0
        self.at = self.good_at = float("-inf")
        self.complete: int | None = None
        self.shown: dict[str, ShownPlayer] = {}
        self.interest: dict[str, None] = {}
        self.trusted = False
        self.ahead: Ahead[str] = Ahead()
        """Players of `shown` and `interest` that go over to the heir of this node."""

    def show(self, here: ShownPlayer) -> None:
        """Note that a player is shown there."""
        if self.ahead.noting:
            self.ahead.note(here.player)
        self.shown[here.player] = here

    def hide(self, player: str) -> None:
        """Note that a player is not shown there any more."""
        if self.ahead.noting:
            self.ahead.note(player)
        self.shown.pop(player, None)

    def watch(self, player: str) -> None:
        """Note that the peer watches a player."""
        if self.ahead.noting:
            self.ahead.note(player)
        self.interest[player] = None

    def unwatch(self, player: str) -> None:
        """Note that the peer watches a player no more."""
        if self.ahead.noting:
            self.ahead.note(player)
        self.interest.pop(player, None)

    # ---- going over ----

    def begin_ahead(self) -> None:
        """Note each change from here on: all is to be copied."""
        if not self.ahead.noting:
            self.ahead.begin(dict.fromkeys((*self.shown, *self.interest)))

    def copy(self, peer: NodeAddress, players: Iterable[str]) -> HeardCopy:
        """All that is known of `players` now."""
        shown: list[ShownPlayer] = []
        hidden: list[str] = []
        watched: list[str] = []
        unwatched: list[str] = []
        for player in players:
            here = self.shown.get(player)
            if here is not None:
                shown.append(here)
            else:
                hidden.append(player)
            (watched if player in self.interest else unwatched).append(player)
        return HeardCopy(peer, self.stint, shown, hidden, watched, unwatched)

    def take_copy(self, copy: HeardCopy) -> None:
        """Take what the predecessor has heard."""
        for here in copy.shown:
            self.shown[here.player] = here
        for player in copy.hidden:
            self.shown.pop(player, None)
        self.interest.update(dict.fromkeys(copy.watched))
        for player in copy.unwatched:
            self.interest.pop(player, None)

    def bequeath(self, peer: NodeAddress, now: float) -> HeardBequest:
        """All that was not copied ahead, or has changed since."""
        players = self.ahead.left() if self.ahead.noting else dict.fromkeys((*self.shown, *self.interest))
        return HeardBequest(
            self.stint,
            self.number,
            ago(self.at, now),
            ago(self.good_at, now),
            self.complete,
            self.trusted,
            self.copy(peer, players),
        )

    def inherit(self, bequest: HeardBequest, now: float) -> None:
        """Go on from what the predecessor has heard."""
        self.stint, self.number = bequest.stint, bequest.number
        self.at, self.good_at = now - bequest.at_ago, now - bequest.good_ago
        self.complete, self.trusted = bequest.complete, bequest.trusted
        self.take_copy(bequest.copy)

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

    def bequeath(self, now: float) -> FloorsBequest:
        """All of them, for the heir of this node."""
        return FloorsBequest(self._new, self._old, ago(self._turned_at, now))

    def inherit(self, bequest: FloorsBequest, now: float) -> None:
        """Go on from those of the predecessor."""
        self._new, self._old, self._turned_at = bequest.new, bequest.old, now - bequest.turned_ago

    def age(self, now: float, kept_s: float) -> None:
        """Forget what is older than `kept_s` to twice that, or too much."""
        if now - self._turned_at >= kept_s or len(self._new) >= self._most:
            self._turned_at, self._old, self._new = now, self._new, {}
