"""The part of a match that says who sees what of it: `Match` is made of it. Its scoreboard, and who may watch it.

Where the match has a delay (`game/match/spectating.py`), its onlookers lag behind its log as the engine has it
(`server/activations/public_end.py`): their streams end at the public end, and scoreboard and list show them the state
there. Every event by which somebody begins or ceases to be an onlooker raises the guard of the stream, so that nobody
is served by what it was before. A match that has no delay, or whose results are made, pays a comparison for this.
"""

import asyncio
from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from game.match import board, guests, hosting, spectating
from game.match.events import HostChanged, Kicked, Reserved, Uninvited
from game.match.hidden import Hidden, HiddenWord, among
from game.match.results import ResultsPart
from game.match.state import MatchState
from game.messages import Created, Joined, Left, MatchEvent, MatchGet, PartyJoined, Scoreboard
from server.actors.actor import Attached, Caller, existing, read_only
from server.errors import Forbidden, NotFound

NARROWS: Final = frozenset({Kicked, Uninvited, Reserved, HostChanged})
"""Events after which somebody may watch a private match no more."""
CHANGES_SIDES: Final = frozenset({Joined, PartyJoined, Left, Kicked, HostChanged})
"""Events by which somebody begins or ceases to be an onlooker."""
OF_WATCHERS: Final = NARROWS | CHANGES_SIDES | {Created}
"""Events that `note_watchers` hears of."""


class SightPart(ResultsPart):
    """See the module's head."""

    __slots__ = ("clock_ms", "hidden", "late_ranking", "ranking")

    def begin_sight(self) -> None:
        """The part's own of `activated`."""
        self.clock_ms = 0
        self.hidden = Hidden()
        self.ranking: board.Ranking | None = None
        self.late_ranking: board.Ranking | None = None
        """The order as onlookers see it of a large match that has a delay."""
        self.begin_delay()

    def begin_delay(self) -> None:
        """Have onlookers lag, where the match has a delay and is not public yet."""
        if not spectating.is_public(self.state):
            self.delay_watching(spectating.delay_ms(self.state) / 1000)

    def note_watchers(self, event: MatchEvent) -> None:
        """Have those asked about again who watch, where `event` changes who may, or who lags."""
        kind = type(event)
        if kind is Created:
            self.begin_delay()
        elif kind in NARROWS and self.guards_watch():
            self.narrow_watching()
            self.await_reservations()
        elif kind in CHANGES_SIDES and self.state.spectator_delay_ms is not UNSET:
            self.narrow_watching()

    @read_only
    async def get(self, caller: Caller, message: MatchGet) -> Scoreboard:
        self._exists()
        if not self._may_see(caller, watch=False):
            raise Forbidden(f"match {self.key} is private")
        late = self.lags(caller)
        ranking = self.ranked(board.SLICE, late)
        if ranking is not None:
            await self._in_order(ranking, late)
        page = board.Page(message.limit, message.cursor)
        hidden = self.hidden.of(self.state, caller.subject if caller.role == "player" else None, host_of(caller))
        if late:
            state, next_seq, clock_ms = self.outside(), self.context.log().public_seq, 0
            hidden = among(state, hidden)
        else:
            state, next_seq, clock_ms = self.state, self.next_seq, self.clock_ms
        return board.scoreboard(state, self.key, message.id, next_seq, clock_ms, page, ranking, hidden)

    def lags(self, caller: Caller) -> bool:
        """Whether `caller` is an onlooker from whom something of the match is held back."""
        if spectating.is_public(self.state) or caller.role in ("service", "node"):
            return False
        player = caller.subject if caller.role == "player" else None
        return spectating.is_onlooker(self.state, player, host_of(caller))

    def outside(self) -> MatchState:
        """The match as its onlookers may know it now. By what it is searched, which is for all who look for a match to
        play in, they know at once."""
        state = self.state
        if spectating.is_public(state):
            return state
        shown: MatchState | None = self.context.log().public_state
        if shown is None:
            return spectating.as_announced(state)
        return replace(shown, properties=state.properties, tags=state.tags)

    def may_watch(self, caller: Caller) -> bool:
        return self._may_see(caller, watch=True)

    def _may_see(self, caller: Caller, watch: bool) -> bool:
        player = caller.subject if caller.role == "player" else None
        services = caller.role in ("service", "node")
        return services or guests.may_see(self.state, player, host_of(caller), self.wall_ms(), watch)

    def guards_watch(self) -> bool:
        return guests.entry_of(self.state).private or self.state.spectator_delay_ms is not UNSET

    def reservation_over(self) -> None:
        """Timer: a place is not reserved any more, and who could watch for its sake may have no other right to."""
        self.narrow_watching()
        self.await_reservations()

    def await_reservations(self) -> None:
        """Wait for the next end of a reservation that lets somebody watch."""
        until_ms = guests.reserved_until(self.state, self.wall_ms()) if self.guards_watch() else None
        if until_ms is None:
            self.cancel(self.reservation_over)
        else:
            self.after(max(0, until_ms - self.wall_ms()) / 1000 + 0.001, self.reservation_over)

    async def _in_order(self, ranking: board.Ranking, late: bool) -> None:
        """Have it catch up; the loop has its turn between two steps."""
        while True:
            if ranking.follow((self.outside() if late else self.state).players):
                return
            await asyncio.sleep(0)

    def ranked(self, at_most: int, late: bool = False) -> board.Ranking | None:
        """The order of the players of a large match, with up to so many more of them where they belong now. `late`: as
        onlookers see it, where that is something else."""
        late = late and not spectating.is_public(self.state)
        players = (self.outside() if late else self.state).players
        if len(players) <= board.SMALL:
            return None
        if late:
            ranking = self.late_ranking = self.late_ranking or board.Ranking()
        else:
            ranking = self.ranking = self.ranking or board.Ranking()
        ranking.follow(players, at_most)
        return ranking

    @read_only
    def attach(self, node: str, incarnation: int) -> Attached:
        """Stream new events, as every log does. Raises `NotFound` for a match that was never created."""
        self._exists()
        return super().attach(node, incarnation)

    @existing
    def player_hidden(self, word: HiddenWord) -> None:
        """See `MatchFace.player_hidden`."""
        self.hidden.hear(self.state, word)

    def _exists(self) -> None:
        """Raise `NotFound`, and leave memory, if the match was never created."""
        if not self.state.host:
            self.release()
            raise NotFound(f"no match {self.key}")


def host_of(caller: Caller) -> str:
    """The name of a caller as a host."""
    return hosting.host_name(caller.role, caller.subject)
