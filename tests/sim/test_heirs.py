"""Processes of one run in the simulation: of all that succeed each other, only the newest ever answers."""

import pytest

from tests.sim.heirs import heirs


@pytest.mark.parametrize("seed", [1, 4, 8, 11, 12])
def test_processes_of_a_run_never_both_answer(seed: int) -> None:
    assert heirs(seed) == []
