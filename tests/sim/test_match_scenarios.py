"""Admissions and hosts of matches in the simulated cluster; the checkers against sound logs and planted ones."""

from typing import Any

import pytest
from msgspec import UNSET

from game.match.events import HostChanged, Kicked, Unkicked
from game.match.state import Line, Lines, MatchState, PlayOptions
from game.messages import Ended, Joined, Medal, PartyJoined, PartyPlace
from tests.sim.admissions import admissions, admissions_are_wrong, crossings
from tests.sim.handovers import handovers, reports_are_wrong


@pytest.mark.parametrize("seed", [1, 2])
def test_rosters_and_admissions_are_right_after_a_storm(seed: int) -> None:
    assert admissions(seed) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_player_whom_two_matches_take_in_stays_in_the_one_that_does_not_refuse(seed: int) -> None:
    assert crossings(seed) == []


@pytest.mark.parametrize("seed", [1, 3])
def test_a_match_has_one_host_at_a_time(seed: int) -> None:
    assert handovers(seed) == []


# ---- the checkers -----------------------------------------------------------------------------------

KICK = Kicked(0, "p0", "", 2)


def after(*present: str, places: int = 2) -> MatchState:
    return MatchState(options=PlayOptions(max_players=places), players=Lines({name: Line() for name in present}))


def party(number: int, *players: str) -> PartyJoined:
    return PartyJoined(0, "red", number, [PartyPlace(player, 0, 1) for player in players])


def test_sound_admissions_pass() -> None:
    log = [
        (1, party(1, "p0", "p1"), after("p0", "p1")),
        (2, KICK, after("p1")),
        (3, Unkicked(0, "p0", 2), after("p1")),
        (4, Joined(0, "p0", 0, 4), after("p0", "p1")),
        (5, party(2, "p0", "p1"), after("p0", "p1")),
    ]
    assert admissions_are_wrong(log) == []


@pytest.mark.parametrize(
    "log",
    [
        [(1, KICK, after("p0"))],
        [(1, KICK, after()), (2, Joined(0, "p0", 0, 2), after("p0"))],
        [(1, KICK, after()), (2, party(1, "p0", "p1"), after("p0", "p1"))],
        [(1, party(1, "p0", "p1"), after()), (2, party(1, "p0", "p1"), after())],
        [(1, party(1, "p0"), after("p0"))],
        [(1, Joined(0, "p2", 0, 1), after("p0", "p1", "p2"))],
    ],
    ids=["still there", "back", "back with its party", "twice", "half a party", "full"],
)
def test_a_wrong_admission_is_found(log: Any) -> None:
    assert admissions_are_wrong(log)


BLUE = HostChanged(0, "blue", "passed", 2, 1)
NAMED = MatchState(successor="blue")
NOBODY = MatchState()


def test_sound_reports_pass() -> None:
    log = [(1, Medal(0, "red.1.1", "m"), NOBODY), (2, BLUE, NAMED), (3, Medal(0, "blue.2.2", "m"), NOBODY)]
    ended = [(4, Ended(0, "host_vanished", None, 1), NOBODY)]
    assert reports_are_wrong([*log, *ended], ["red.1.1"]) == [] and NOBODY.successor is UNSET


@pytest.mark.parametrize(
    "log",
    [
        [(1, Medal(0, "blue.1.1", "m"), NOBODY)],
        [(2, BLUE, NAMED), (3, Medal(0, "red.1.1", "m"), NOBODY)],
        [(2, BLUE, NAMED), (3, Medal(0, "blue.1.1", "m"), NOBODY)],
        [(3, BLUE, NAMED)],
        [(1, Ended(0, "host_vanished", None, 1), NAMED)],
        [],
    ],
    ids=["another", "the old one", "an old term", "another number", "ended", "lost"],
)
def test_a_wrong_report_is_found(log: Any) -> None:
    assert reports_are_wrong(log, ["red.1.1"])
    assert not log or reports_are_wrong(log, [])
