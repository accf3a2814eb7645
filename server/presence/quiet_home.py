"""Players who are shown at the heir of a node while it is in standby: noted, and told to nobody.

The predecessor has told of them, under the same epochs. A copy may be replaced or withdrawn; nobody hears of that
either: no order of an end is noted, which would hide the next copy of the same activation.
"""

from server.actors.pictures import ShownActor
from server.ids import ActorId, key_of


class QuietHome:
    """See the module's head. `seen`: how many looks of each player had been seen as it arrived."""

    def __init__(self, home: dict[str, ShownActor]) -> None:
        self._home = home
        self.seen: dict[str, int] = {}

    def show(self, identity: ActorId, shown: ShownActor) -> None:
        """See `server.actors.outlet.Outlet.show`."""
        player = key_of(identity)
        if self._home.get(player) is not shown:
            self._home[player] = shown
            self.seen[player] = shown.seen.n

    def withdraw(self, identity: ActorId, epoch: int, n: int) -> None:
        """See `server.actors.outlet.Outlet.withdraw`."""
        self._home.pop(key_of(identity), None)
        self.seen.pop(key_of(identity), None)

    def hide(self, identity: ActorId, epoch: int, moved: bool) -> None:
        """See `server.actors.outlet.Outlet.hide`."""
        self.withdraw(identity, epoch, 0)

    def nothing(self) -> None:
        """Follow up on nothing."""
