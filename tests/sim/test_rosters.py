"""Rosters and players in the simulated cluster (F6, F7); the checker against a sound store and planted differences."""

from typing import Any

import pytest

from game.match.state import Line, Lines, MatchState
from game.places import Membership
from game.player.state import PlayerState
from tests.sim.rosters import rosters, rosters_differ

SOUND: Any = {"players": {"ann": PlayerState(match="m", birth=7, member=3)}}


@pytest.mark.parametrize("seed", [1, 3])
def test_f6_rosters_and_players_agree_after_a_storm(seed: int) -> None:
    assert rosters(seed) == []


def match(**lines: Line) -> dict[str, MatchState]:
    return {"m": MatchState(host="h", created_wall_ms=7, players=Lines(lines))}


def test_a_sound_store_passes() -> None:
    sound = match(ann=Line(member=3), bob=Line(present=False))
    assert rosters_differ(sound, SOUND["players"]) == []


@pytest.mark.parametrize(
    ("matches", "players"),
    [
        (match(ann=Line(member=3)), {}),
        (match(ann=Line(member=3)), {"ann": PlayerState(match="m", birth=7, member=2)}),
        (match(ann=Line(member=3)), {"ann": PlayerState(match="m", birth=6, member=3)}),
        (match(ann=Line(member=3, present=False)), SOUND["players"]),
        (match(), SOUND["players"]),
        (match(), {"ann": PlayerState(leaving=(Membership("m", 7, 3),))}),
        ({"m": MatchState(host="h", phase="ended")}, SOUND["players"]),
    ],
    ids=["ghost", "older place", "namesake", "left", "unknown", "untold", "over"],
)
def test_catches_a_difference(matches: Any, players: Any) -> None:
    assert rosters_differ(matches, players)
