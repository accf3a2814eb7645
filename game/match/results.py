"""The part of a match that makes and tells its results: `Match` is made of it.

    Ended is stored -> fact `rate`, to itself -> Rated is stored -> a fact `settle` to each participant -> all told

Once the end is stored the match reads its log again, and the ratings of its participants, and logs what each career
gets of it (`Rated`). Where the store says nothing it does not give up: the fact is told again until it does, by this
node or, where that dies, by the next. From `Rated` on each participant is told, until it has stored its result.

A match with a delay for its onlookers does so only when all of it is public: until then the fact is refused, with the
time that is left, and told again after that. `Rated` is what makes its end public.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import UNSET

from game.careers import ratings
from game.careers.events import Gain, Outcome, Rated, Result
from game.careers.ratings import Rating
from game.careers.seasons import season_at
from game.careers.tally import Tally
from game.match import endings
from game.match.face import MatchFace
from game.match.state import Line, MatchState
from game.messages import MatchEvent
from game.player.face import PlayerFace
from server.actors.actor import Fact, Stamp, existing, fact
from server.errors import NotFound, Unavailable

RESULTS_AN_EVENT: Final = 256
_event = msgspec.msgpack.Decoder(MatchEvent)
_NOTHING: Final = Outcome()


class ResultsPart(MatchFace):
    """See the module's head."""

    __slots__ = ()

    @existing
    async def rate(self) -> None:
        """Log what careers get of this match, once. Raises `Unavailable` where a rating cannot be read now, and as long
        as the end is not to be known to everybody."""
        if not is_to_rate(self.state):
            return
        held_back_s = self.context.log().public_in_s()
        if held_back_s > 0:
            raise Unavailable(f"match {self.key} is not public yet", retry_after_s=held_back_s)
        tally = await self._tally()
        group = ratings.group_of(self.state)
        sides = ratings.sides_of(self.state, tally) if group else []
        known = await self._ratings(group, sorted(player for side in sides for player in side)) if sides else {}
        changes = ratings.differences(self.state, sides, known) if sides else {}
        season = season_at(self.context.settings.careers.beginnings, self.state.created_wall_ms)
        for event in rated(self.state, season, group if sides else "", ratings.results(self.state, tally, changes)):
            self.emit(event)
        self.delay_watching(0)

    async def _tally(self) -> Tally:
        """A count over the log; the loop has its turn between two batches of it."""
        tally, place = Tally(), 1
        while place < self.next_seq:
            batch = await self.read_events(place)
            tally.take_all(map(_event.decode, batch.events))
            place = batch.first_seq + len(batch.events)
            await asyncio.sleep(0)
        return tally

    async def _ratings(self, group: str, players: list[str]) -> dict[str, Rating]:
        """The stored ratings of those of `players` that have one. A store without queries keeps none."""
        try:
            rows = await self.query_store("ratings", {"rating_group": group, "players": players})
        except NotFound:
            return {}
        return {row["player"]: Rating(row["mu"], row["log_sigma"]) for row in rows}


def is_to_rate(state: MatchState) -> bool:
    """Whether the match is over and its results are not made yet. One that an earlier version ended has none."""
    return state.outcome is not UNSET and not state.outcome.whole


def rated(state: MatchState, season: str, group: str, results: list[Result]) -> Iterable[Rated]:
    """The events that say so, one at least, of a bounded size each."""
    for begin in range(0, max(1, len(results)), RESULTS_AN_EVENT):
        some, end = results[begin : begin + RESULTS_AN_EVENT], begin + RESULTS_AN_EVENT
        yield Rated(state.time_ms, season, group, some, more=end < len(results))


def result_facts(key: str, state: MatchState) -> Iterable[Fact]:
    """The facts of a match that is over: first that it is to be rated, then the result of each participant."""
    birth = state.created_wall_ms
    if is_to_rate(state):
        yield fact(Stamp(0, birth), MatchFace, key, MatchFace.rate)
        return
    outcome = _NOTHING if state.outcome is UNSET else state.outcome
    results = {result.player: result for result in outcome.results}
    for player in endings.with_career(state):
        line = state.players[player]
        won = endings.won(state, player)
        gain = gain_of(state, line, won, results.get(player), outcome)
        result = (key, state.ended_wall_ms, line, won, birth, gain)
        yield fact(Stamp(0, birth), PlayerFace, player, PlayerFace.settle, *result)


def boards_of(state: MatchState) -> list[str]:
    """The modes whose leaderboards the results of a match change; ratings of a match without teams have one apart."""
    group = "" if state.outcome is UNSET else state.outcome.rating_group
    return list(dict.fromkeys(name for name in ("all", state.options.mode, group) if name))


def gain_of(state: MatchState, line: Line, won: bool, result: Result | None, outcome: Outcome) -> Gain:
    """The addition to the career of a participant. Of a match that an earlier version ended that is its line only."""
    mode, season = state.options.mode, outcome.season
    counts = (won, line.kills, line.deaths, line.assists, line.medals)
    if result is None:
        return Gain(mode, season, *counts)
    more = (result.best_streak, result.played_ms, {named.medal: named.earned for named in result.medals})
    return Gain(mode, season, *counts, *more, outcome.rating_group, result.mu, result.log_sigma)
