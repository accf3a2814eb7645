"""Whole matches of 2 to 64 players, up to a week of match clock, from their events through the log to careers and out
again as a recording: the totals are those of what was played, wherever one looks."""

import io
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from game import replay
from game.careers import ratings, recount
from game.careers.tally import Tally
from game.commands.export import recording_lines
from game.imports.encode import Origins, whole_log
from game.imports.importing import FileImport
from game.match.results import rated
from game.messages import Assist, Death, Kill, Medal, Objective, Report, Score
from tests.support.matches import Played

WEEK_MS = 7 * 24 * 3_600_000
COUNTED = ("kills", "deaths", "assists", "medals", "objectives")
MODES = {"slayer": 2, "free_for_all": 0, "capture_the_flag": 2, "custom": 3, "recorded": 0}
"""Teams of a match by its mode."""
MEDALS = ("Double Kill", "Ace'", "Ünïcode")
Totals = dict[str, Counter[str]]


class Game:
    """A match that is played to its end by chance, and what its players did, counted as it was said."""

    def __init__(self, seed: int, players: int, length_ms: int) -> None:
        self.rng, self.match = random.Random(seed), Played()
        self.match.wall_ms += seed * 1_000
        mode = self.rng.choice(sorted(MODES))
        self.names = [f"p{number}" for number in range(players)]
        self.totals: Totals = {name: Counter() for name in self.names}
        self.match.create(
            mode=mode, teams=MODES[mode], max_players=64, score_limit=0, time_limit_ms=0, countdown_ms=0
        )  # fmt: skip
        self.match.join(*self.names).start()
        at_ms, count = 0, self.rng.randint(1, 60)
        for _ in range(count):
            at_ms += self.rng.randint(0, length_ms // count)
            self.match.report(*(self._event(at_ms, mode) for _ in range(self.rng.randint(1, 4))))
        self.match.wall_ms += length_ms
        self.match.end(length_ms)
        self._rate()

    def _event(self, at_ms: int, mode: str) -> Report:
        player, other = self.rng.sample(self.names, 2)
        team = self.match.state.players[player].team
        done = self.totals[player]
        match self.rng.randrange(6):
            case 0 | 1:
                victim = None if mode == "recorded" else other
                if team is None or team != self.match.state.players[other].team:
                    done["kills"] += 1
                if victim is not None:
                    self.totals[victim]["deaths"] += 1
                return Kill(at_ms, player, victim)
            case 2:
                done["deaths"] += 1
                return Death(at_ms, player)
            case 3:
                done["assists"] += 1
                return Assist(at_ms, player)
            case 4:
                medal = self.rng.choice(MEDALS)
                done["medals"] += 1
                done[medal] += 1
                return Medal(at_ms, player, medal)
        if self.rng.random() < 0.5:
            return Score(at_ms, self.rng.randint(-3, 3), player=player)
        done["objectives"] += 1
        return Objective(at_ms, player, "flag_taken" if mode == "capture_the_flag" else "goal", 1)

    def _rate(self) -> None:
        """Have the log say what careers get, as the match itself does."""
        tally, state = Tally(), self.match.state
        tally.take_all(record.event for record in self.match.records)
        group = ratings.group_of(state)
        sides = ratings.sides_of(state, tally) if group else []
        changes = ratings.differences(state, sides, {}) if sides else {}
        self.match.emit(list(rated(state, "s1", group if sides else "", ratings.results(state, tally, changes))))


def counts(lines: Any) -> Totals:
    """What the lines of a scoreboard say, without those that say nothing."""
    found = {name: Counter({field: getattr(line, field) for field in COUNTED}) for name, line in lines.items()}
    return {name: +counter for name, counter in found.items() if +counter}


def plain(totals: Totals) -> Totals:
    """The same of what was counted, without the names of medals."""
    found = {name: Counter({field: counter[field] for field in COUNTED}) for name, counter in totals.items()}
    return {name: +counter for name, counter in found.items() if +counter}


def imported(recording: bytes) -> Iterator[Any]:
    """The scoreboards of the matches that are imported from a recording."""
    for match in FileImport(io.BytesIO(recording), Origins("")):
        yield whole_log(match.events).projection.players


@given(seed=st.integers(0, 10**6), players=st.integers(2, 64), length_ms=st.integers(1_000, WEEK_MS))
@example(seed=1, players=64, length_ms=WEEK_MS)
@example(seed=2, players=2, length_ms=WEEK_MS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_match_has_the_totals_of_what_was_played_wherever_one_looks(seed: int, players: int, length_ms: int) -> None:
    game = Game(seed, players, length_ms)
    due, stored = plain(game.totals), game.match.stored(32)
    assert counts(game.match.state.players) == due
    verified = replay.verify(stored)
    assert verified.end_hash and verified.state == game.match.state and verified.state.time_ms == length_ms
    assert counts(replay.at(stored, ms=length_ms).state.players) == due
    recording = b"".join(recording_lines(stored))
    assert not recording or [counts(lines) for lines in imported(recording)] == [due]
    found = recount.recounted("m", stored)
    assert found is not None and not found.disputed and set(found.rows) == set(game.names)
    for name, row in found.rows.items():
        gain, done = row.gain, game.totals[name]
        said = (gain.kills, gain.deaths, gain.assists, gain.medals)
        assert said == tuple(done[field] for field in COUNTED[:4])
        assert gain.names == {medal: done[medal] for medal in MEDALS if done[medal]}
        assert gain.best_streak <= gain.kills and 0 <= gain.played_ms <= length_ms
    assert recount.row_differences(found, found.rows.values(), told=True).differences == []


@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_career_is_the_sum_of_what_was_played(seeds: list[int]) -> None:
    games = [Game(seed, 2 + seed % 7, WEEK_MS // 7) for seed in seeds]
    rows, due = [], Counter[tuple[str, str, str]]()
    for number, game in enumerate(games):
        found = recount.recounted(f"m{number}", game.match.stored(32))
        assert found is not None
        rows += found.rows.values()
        for name, counter in game.totals.items():
            mode = game.match.state.options.mode
            due.update({(name, mode, field): counter[field] for field in ("kills", "deaths", "assists", "medals")})
            due[name, mode, "matches"] += 1
    sums, found_sums = recount.sums(rows), Counter[tuple[str, str, str]]()
    for (name, mode, _), line in sums.totals.items():
        named = dict(zip(recount.TOTALS, line, strict=True))
        for field in ("matches", "kills", "deaths", "assists", "medals"):
            found_sums[name, mode, field] += named[field]
    assert +found_sums == +due
    earned = Counter({name: sum(n for key, (n,) in sums.medals.items() if key[0] == name) for name, *_ in sums.totals})
    assert +earned == +Counter({name: sum(game.totals[name]["medals"] for game in games if name in game.totals)
                                for name in earned})  # fmt: skip
