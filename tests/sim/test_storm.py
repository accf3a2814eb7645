"""The storm over fixed seeds, and the seeds that once found something."""

import os
from functools import cache

import pytest

from tests.sim import scenario
from tests.sim.digests import digests
from tests.sim.faults import WEIGHTS, draw
from tests.sim.regressions import KEPT, Regression
from tests.sim.storm import Options, Outcome, play
from tests.sim.sweep import run_one

SEEDS = tuple(range(1001, 1008))


@cache
def _outcome(seed: int, options: Options = Options()) -> Outcome:  # noqa: B008 - immutable
    return play(seed, options).outcome


def _told(violations: list[str], faults: list[str], logs: list[str]) -> str:
    return "\n".join([*logs[-60:], *faults, *violations])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cluster_comes_through_a_storm(seed: int) -> None:
    outcome = _outcome(seed)
    assert outcome.violations == [], _told(outcome.violations, outcome.faults, outcome.logs)


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_players_are_seen_as_they_are_after_a_storm(seed: int) -> None:
    outcome = _outcome(seed, Options(watches=True))
    assert outcome.violations == [], _told(outcome.violations, outcome.faults, outcome.logs)


def test_the_seeds_cover_what_they_are_for() -> None:
    outcomes = [_outcome(seed) for seed in SEEDS]
    assert {outcome.journal for outcome in outcomes} == {"none", "local", "redis"}
    assert sum(outcome.leases_lost for outcome in outcomes) > 0
    assert sum(outcome.injected for outcome in outcomes) > 0
    assert min(outcome.answers for outcome in outcomes) > 50


def test_every_kind_of_fault_can_be_drawn() -> None:
    import random

    assert {fault.kind for fault in draw(random.Random(1), 10, 2_000)} == set(WEIGHTS)


@pytest.mark.parametrize("kept", KEPT, ids=[f"{one.scenario} {one.seed}" for one in KEPT])
def test_kept_seeds_pass(kept: Regression) -> None:
    if kept.scenario == "storm":
        storm = _outcome(kept.seed, kept.options)
        assert storm.violations == [], _told([kept.found, *storm.violations], storm.faults, storm.logs)
    else:
        first = scenario.play(kept.seed, faults=kept.faults).outcome
        assert first.violations == [], _told([kept.found, *first.violations], [], first.logs)


def test_same_seed_same_trace_in_a_fresh_process() -> None:
    """Both scenarios, played here after whatever else, and in a process whose hashes are others."""
    played = [run_one(work, shuffle=False, faults=None) for work in (("storm", 1003), ("first", 1004))]
    assert digests("both", 1003, "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2", seeds=2) == "".join(
        f"{each.scenario} {each.seed} {each.digest}\n" for each in played
    )
    assert played[0].digest != run_one(("storm", 1005), shuffle=False, faults=None).digest
