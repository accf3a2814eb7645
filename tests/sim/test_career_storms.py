"""Careers and ratings in the simulated cluster; the checker against sound rows and planted differences."""

from typing import Any

import pytest
from msgspec.structs import replace

from game.careers.events import Gain, Rated, Result
from game.messages import Ended, Kill, MatchEvent
from game.player.state import PlayerState, SettledMatch
from tests.sim.careers import additions, careers, careers_differ, late_careers, played
from tests.sim.careers_kills import KILLS_A_MATCH, compared
from tests.support.matches import Played

RESULTS = [Result("ann", 2, 30, [], 500, -1), Result("bob", 0, 30, [], -500, -1)]
TOTALS: dict[str, PlayerState] = {"ann": PlayerState(matches=1_001, kills=5_002, wins=1)}
GAIN = Gain("slayer", "s0", True, 2, 0, 0, 0, 2, 30, {}, "slayer.solo", 500, -1)
LOST = Gain("slayer", "s0", False, 0, 2, 0, 0, 0, 30, {}, "slayer.solo", -500, -1)


@pytest.mark.parametrize("seed", [2, 5])
def test_careers_are_what_the_logs_say_after_a_storm(seed: int) -> None:
    assert careers(seed) == []


def test_no_career_has_anything_of_a_match_before_its_end_is_public() -> None:
    assert late_careers(1) == []


def log(*after: MatchEvent, winner: str | None = "ann") -> dict[tuple[str, int], Any]:
    match = Played().create(teams=0, countdown_ms=0, score_limit=0).join("ann", "bob").start()
    match.report(Kill(10, "ann", "bob"), Kill(20, "ann", "bob"))
    match.emit([Ended(30, "host_ended", winner, 50, True), *after])
    return {("m", match.wall_ms): match.stored()}


SOUND = log(Rated(30, "s0", "slayer.solo", RESULTS))
BIRTH = next(iter(SOUND))[1]


def rows(**gains: Gain) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for player, gain in gains.items():
        found.update(additions(player, 0, PlayerState(settled=(SettledMatch("m", 50, BIRTH, 1, gain),))))
    return found


def test_sound_careers_pass() -> None:
    assert careers_differ(SOUND, rows(ann=GAIN, bob=LOST), TOTALS) == []


@pytest.mark.parametrize(
    ("logs", "found", "says"),
    [
        (SOUND, rows(ann=GAIN), "no row"),
        (SOUND, rows(ann=GAIN, bob=LOST, cyd=LOST), "in no log"),
        (SOUND, rows(ann=replace(GAIN, kills=3), bob=LOST), "('kills', 3, 2)"),
        (SOUND, rows(ann=replace(GAIN, mu=501), bob=LOST), "('mu', 501, 500)"),
        (SOUND, rows(ann=replace(GAIN, best_streak=1), bob=LOST), "best_streak"),
        (log(), rows(ann=GAIN, bob=LOST), "has 0 results"),
        (log(*[Rated(30, "s0", "slayer.solo", RESULTS)] * 2), rows(ann=GAIN, bob=LOST), "has 2 results"),
        (log(Rated(30, "s0", "g", [replace(RESULTS[0], mu=-1)])), rows(ann=GAIN, bob=LOST), "won, and"),
        (log(Rated(30, "s0", "g", [replace(RESULTS[0], mu=25_000_000)])), rows(ann=GAIN, bob=LOST), "than one can be"),
    ],
)
def test_catches_what_differs(logs: Any, found: Any, says: str) -> None:
    assert any(says in line for line in careers_differ(logs, found, TOTALS))


@pytest.mark.parametrize("wrong", [{"matches": 1_002}, {"kills": 5_001}, {"wins": 0}])
def test_catches_totals_that_are_not_the_sum(wrong: dict[str, int]) -> None:
    assert careers_differ(SOUND, rows(ann=GAIN, bob=LOST), {"ann": replace(TOTALS["ann"], **wrong)})


def test_results_while_many_nodes_die_are_neither_lost_nor_doubled() -> None:
    """The figure of `python -m tests.sim.careers_kills`, and what it would say of planted losses and doubles."""
    wrong, done = played(3, KILLS_A_MATCH, matches=4)
    told = compared(done, wrong)
    assert (told.lost, told.doubled, told.wrong) == (0, 0, []) and told.kills > 4 and told.results > 10
    rows = done.world.database.rows
    key, row = next((key, row) for key, row in rows.items() if not row[1].startswith("old"))
    del rows[key]
    assert (compared(done, []).lost, compared(done, []).doubled) == (1, 0)
    twice = (*row[:2], row[2] + 1, *row[3:])
    rows[key], rows["twice"] = row, twice
    assert (compared(done, []).lost, compared(done, []).doubled) == (0, 1)
