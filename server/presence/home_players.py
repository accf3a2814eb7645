"""Players who are shown at this node, their home, by their activations here. Pure.

    show -> withdraw         the activation says that it is to be seen no more
    show -> hide             it has ended
    show -> hide -> lapsed   it has moved to another node: it *lingers*, as it was seen last, for a moment longer

What others hear of that, and when, is the business of `core.py`.
"""

from collections.abc import Iterable

from server.actors.pictures import Showing, ShownActor
from server.presence.bequest import FloorsBequest, LingeringBequest
from server.presence.heard import Floors
from server.presence.messages import CLOSED, Order, ShownPlayer
from server.presence.watching import looks_of, pictures_of


class Lingering:
    """A player who has moved on from the predecessor, as it was seen last; see `ShownActor`."""

    __slots__ = ("epoch", "seen")

    def __init__(self, lingers: LingeringBequest) -> None:
        self.epoch = lingers.epoch
        pictures = None if lingers.looks is None else pictures_of(lingers.looks)
        self.seen = Showing(lingers.n, pictures, lingers.relations)

    def showing(self) -> Showing:
        return self.seen


class HomePlayers:
    """See the module's head. `linger_s`: for how long who has moved is shown."""

    def __init__(self, linger_s: float) -> None:
        self._linger_s = linger_s
        self.shown: dict[str, ShownActor] = {}
        self.lingering: dict[str, float] = {}
        """Players who linger, and until when."""
        self.ended = Floors()
        """Ends here, for a while. A new owner of the slot is told of them: the node before may show the player still,
        as moved, and it is not told that this is over; nor is the new owner by the old one, which may have died."""

    def of(self, player: str) -> ShownPlayer | None:
        """The player as it looks now; None where it is not shown here, or its look could not be made yet."""
        here = self.shown.get(player)
        if here is None:
            return None
        showing = here.showing()
        if showing.pictures is None:
            return None
        return ShownPlayer(player, here.epoch, showing.n, showing.relations, looks_of(showing.pictures))

    def show(self, player: str, shown: ShownActor) -> None:
        """Let `player` look as `shown` does."""
        self.lingering.pop(player, None)
        self.shown[player] = shown

    def withdraw(self, player: str, order: Order) -> None:
        """Note that `player` is not here any more, since `order`."""
        self.lingering.pop(player, None)
        self.shown.pop(player, None)
        self.ended.raise_to(player, order)

    def hide(self, player: str, epoch: int, moved: bool, now: float) -> Order | None:
        """Note that the activation with `epoch` has ended. Returns the order of the player's end; None where it has not
        come yet, or another activation shows the player."""
        here = self.shown.get(player)
        if here is None or here.epoch > epoch or player in self.lingering:
            return None
        if moved:
            self.lingering[player] = now + self._linger_s
            return None
        self.withdraw(player, (epoch, CLOSED))
        return epoch, CLOSED

    def lapsed(self, now: float) -> list[tuple[str, Order]]:
        """Show nobody any more who has lingered for long enough. Returns them, each with the order of its end."""
        lapsed = []
        for player in [player for player, until in self.lingering.items() if until <= now]:
            order = (self.shown[player].epoch, CLOSED)
            self.withdraw(player, order)
            lapsed.append((player, order))
        return lapsed

    # ---- going over to the heir of this node ----

    def bequeath(self, now: float) -> list[LingeringBequest]:
        """Players who linger: all others go over as activations."""
        return [
            LingeringBequest(
                player,
                self.shown[player].epoch,
                (showing := self.shown[player].showing()).n,
                None if showing.pictures is None else looks_of(showing.pictures),
                showing.relations,
                until - now,
            )
            for player, until in self.lingering.items()
        ]

    def inherit(self, lingering: Iterable[LingeringBequest], ended: FloorsBequest, now: float) -> None:
        """Go on from what was shown and had ended at the predecessor."""
        for lingers in lingering:
            if lingers.player not in self.shown:
                self.shown[lingers.player] = Lingering(lingers)
                self.lingering[lingers.player] = now + lingers.left_s
        self.ended.inherit(ended, now)
