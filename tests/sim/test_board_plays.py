"""Leaderboards in the simulated cluster: they follow what is stored, whoever dies."""

import pytest

from tests.sim.board_plays import boards


@pytest.mark.parametrize("seed", [1, 2])
def test_boards_show_what_is_stored_after_a_storm(seed: int) -> None:
    assert boards(seed) == []
