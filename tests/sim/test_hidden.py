"""Invisible players on the boards of matches in the simulated cluster; the checker against sound and planted boards."""

from typing import Any

import pytest

from game.match.board import scoreboard
from game.match.state import Line, Lines, MatchState
from game.player.state import PlayerState
from tests.sim.hidden import boards_are_wrong, forgotten_word, hidden

STATE = MatchState(host="h", players=Lines({name: Line() for name in ("ann", "bob")}))
PLAYERS: Any = {"ann": PlayerState(match="m", status="invisible"), "bob": PlayerState(match="m", status="online")}


@pytest.mark.parametrize("seed", [1, 2])
def test_boards_show_strangers_the_visible_players_after_a_storm(seed: int) -> None:
    assert hidden(seed) == []


def test_a_match_shows_a_player_whose_node_took_the_word_along() -> None:
    assert forgotten_word(1) == []


def wrong(*unseen: str, names: tuple[str, ...] = ("m",)) -> list[str]:
    board = scoreboard(STATE, "m", 1, 1, hidden=frozenset(unseen))
    return boards_are_wrong({"m": board}, PLAYERS, list(names))


def test_a_sound_board_passes() -> None:
    assert wrong("ann") == []


@pytest.mark.parametrize("unseen", [(), ("bob",), ("ann", "bob")], ids=["seen", "taken for another", "too few"])
def test_catches_a_wrong_board(unseen: tuple[str, ...]) -> None:
    assert wrong(*unseen)


def test_catches_a_board_that_nobody_saw() -> None:
    assert wrong("ann", names=("m", "n"))
