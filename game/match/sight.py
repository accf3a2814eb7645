"""The part of a match that says who sees what of it: `Match` is made of it. Its scoreboard, and who may watch it."""

import asyncio

from game.match import board, guests, hosting
from game.match.hidden import Hidden, HiddenWord
from game.match.results import ResultsPart
from game.messages import MatchGet, Scoreboard
from server.actors.actor import Attached, Caller, existing, read_only
from server.errors import Forbidden, NotFound


class SightPart(ResultsPart):
    """See the module's head."""

    __slots__ = ("clock_ms", "hidden", "ranking")

    def begin_sight(self) -> None:
        """The part's own of `activated`."""
        self.clock_ms = 0
        self.hidden = Hidden()
        self.ranking: board.Ranking | None = None

    @read_only
    async def get(self, caller: Caller, message: MatchGet) -> Scoreboard:
        self._exists()
        if not self._may_see(caller, watch=False):
            raise Forbidden(f"match {self.key} is private")
        ranking = self.ranked(board.SLICE)
        if ranking is not None:
            await self._in_order(ranking)
        page = board.Page(message.limit, message.cursor)
        hidden = self.hidden.of(self.state, caller.subject if caller.role == "player" else None, host_of(caller))
        clock_ms = self.clock_ms
        return board.scoreboard(self.state, self.key, message.id, self.next_seq, clock_ms, page, ranking, hidden)

    def may_watch(self, caller: Caller) -> bool:
        return self._may_see(caller, watch=True)

    def _may_see(self, caller: Caller, watch: bool) -> bool:
        player = caller.subject if caller.role == "player" else None
        services = caller.role in ("service", "node")
        return services or guests.may_see(self.state, player, host_of(caller), self.wall_ms(), watch)

    def guards_watch(self) -> bool:
        return guests.entry_of(self.state).private

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

    async def _in_order(self, ranking: board.Ranking) -> None:
        """Have it catch up; the loop has its turn between two steps."""
        while True:
            if ranking.follow(self.state.players):
                return
            await asyncio.sleep(0)

    def ranked(self, at_most: int) -> board.Ranking | None:
        """The order of the players of a large match, with up to so many more of them where they belong now."""
        if len(self.state.players) <= board.SMALL:
            return None
        if self.ranking is None:
            self.ranking = board.Ranking()
        self.ranking.follow(self.state.players, at_most)
        return self.ranking

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
