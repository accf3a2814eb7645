"""Three nodes of the real code on virtual time: the first scenario, over fixed seeds."""

from functools import cache

import pytest

from tests.sim.scenario import PLAYERS, Outcome, play
from tests.sim.store import RandomFaults

SEEDS = (1, 2, 3, 4, 5)


@cache
def _outcome(seed: int) -> Outcome:
    return play(seed).outcome


@pytest.mark.parametrize("seed", SEEDS)
def test_a_match_goes_on_through_a_crash(seed: int) -> None:
    outcome = _outcome(seed)
    assert outcome.violations == [], "\n".join([*outcome.logs[-60:], *outcome.violations])
    assert outcome.events_seen > 100 * PLAYERS


def test_the_seeds_cover_what_they_are_for() -> None:
    outcomes = [_outcome(seed) for seed in SEEDS]
    assert any(outcome.match_died for outcome in outcomes)
    assert any(not outcome.match_died for outcome in outcomes)
    assert sum(outcome.reconnections > 0 for outcome in outcomes) > len(SEEDS) / 2


@pytest.mark.parametrize("seed", (5, 8))
def test_the_same_with_a_store_that_loses_answers(seed: int) -> None:
    played = play(seed, faults=0.05)
    outcome = played.outcome
    assert outcome.violations == [], "\n".join([*outcome.logs[-60:], *outcome.violations])
    assert isinstance(played.world.store.faults, RandomFaults)
    assert played.world.store.faults.injected > 0
