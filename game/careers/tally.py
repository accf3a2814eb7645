"""A count of what a match's log says of each player and its scoreboard does not: streaks, time, medals by name. Pure.

It is made once, of the whole log, when the match is over: play is not slowed by it, and keyframes carry nothing of it.
Memory is by the number of players, and of each the names of its medals, of which there are at most `MAX_NAMES`.
"""

from collections.abc import Iterable
from typing import Any, Final

from game.match.events import Kicked
from game.messages import Created, Death, Ended, Joined, Kill, Left, Medal, PartyJoined, Started
from game.modes.registry import MODES

MAX_NAMES: Final = 64
"""Names of medals that are counted apart, of one player in one match; further ones count under `OTHERS`."""
OTHERS: Final = "(others)"


class Counted:
    """Counts of one player."""

    __slots__ = ("best_streak", "first_ms", "last_ms", "medals", "played_ms", "present", "since_ms", "streak", "team")

    def __init__(self) -> None:
        self.team: int | None = None
        self.present = False
        self.since_ms: int | None = None
        """The clock from which on the player has been in the live match, None while it is not."""
        self.played_ms = self.streak = self.best_streak = 0
        self.medals: dict[str, int] = {}
        self.first_ms = self.last_ms = -1
        """Clocks of its events, for a player whose coming nobody noted: a recording does not say it."""


class Tally:
    """See the module's head: `take` every event in order, then look at `players`."""

    __slots__ = ("is_live", "is_recorded", "players")

    def __init__(self) -> None:
        self.players: dict[str, Counted] = {}
        self.is_live = self.is_recorded = False

    def take_all(self, events: Iterable[Any]) -> None:
        for event in events:
            method = _TAKE.get(type(event))
            if method is not None:
                getattr(self, method)(event)

    def of(self, player: str) -> Counted:
        counted = self.players.get(player)
        if counted is None:
            counted = self.players[player] = Counted()
        return counted

    def _seen(self, player: str, time_ms: int) -> Counted:
        counted = self.of(player)
        if counted.first_ms < 0:
            counted.first_ms = time_ms
        counted.last_ms = time_ms
        return counted

    def _created(self, event: Created) -> None:
        self.is_recorded = MODES.find(event.options.mode, event.rules).recording

    def _enter(self, player: str, team: int | None, time_ms: int) -> None:
        counted = self.of(player)
        counted.team, counted.present = team, True
        if self.is_live and counted.since_ms is None:
            counted.since_ms = time_ms

    def _joined(self, event: Joined) -> None:
        self._enter(event.player, event.team, event.time_ms)

    def _party_joined(self, event: PartyJoined) -> None:
        for place in event.members:
            self._enter(place.player, place.team, event.time_ms)

    def _gone(self, event: Left | Kicked) -> None:
        counted = self.players.get(event.player)
        if counted is not None:
            counted.present = False
            self._close(counted, event.time_ms)

    def _close(self, counted: Counted, time_ms: int) -> None:
        if counted.since_ms is not None:
            counted.played_ms += max(0, time_ms - counted.since_ms)
            counted.since_ms = None

    def _started(self, event: Started) -> None:
        self.is_live = True
        for counted in self.players.values():
            if counted.present:
                counted.since_ms = event.time_ms

    def _ended(self, event: Ended) -> None:
        for counted in self.players.values():
            self._close(counted, event.time_ms)
            if not counted.played_ms and counted.team is None and counted.first_ms >= 0 and self.is_recorded:
                counted.played_ms = counted.last_ms - counted.first_ms
        self.is_live = False

    def _killed(self, event: Kill) -> None:
        killer = self._seen(event.player, event.time_ms)
        victim = event.victim
        if self.is_recorded or victim is None:
            fallen = None
        else:
            fallen = self._seen(victim, event.time_ms)
            fallen.streak = 0
        if fallen is killer or (fallen is not None and killer.team is not None and killer.team == fallen.team):
            return
        killer.streak += 1
        killer.best_streak = max(killer.best_streak, killer.streak)

    def _died(self, event: Death) -> None:
        self._seen(event.player, event.time_ms).streak = 0

    def _decorated(self, event: Medal) -> None:
        medals = self._seen(event.player, event.time_ms).medals
        name = event.medal if event.medal in medals or len(medals) < MAX_NAMES else OTHERS
        medals[name] = medals.get(name, 0) + 1


_TAKE: Final[dict[type, str]] = {
    Created: "_created",
    Joined: "_joined",
    PartyJoined: "_party_joined",
    Left: "_gone",
    Kicked: "_gone",
    Started: "_started",
    Kill: "_killed",
    Death: "_died",
    Medal: "_decorated",
    Ended: "_ended",
}
