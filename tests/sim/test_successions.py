"""Nodes go on in other processes, over fixed seeds: at each step of a succession something goes wrong in a run."""

from functools import cache

import pytest

from server.ids import Incarnation, NodeAddress, NodeId
from tests.sim.history import Audit, Released, Succeeded, Surrendered
from tests.sim.successions import TROUBLES, Played, handed_on, play, turns_of
from tests.sim.upgrades import STEPS

SEEDS = tuple(range(1, 8))
N1 = NodeAddress(NodeId("n1"), Incarnation(1))


@cache
def _played(seed: int) -> Played:
    return play(seed, turns_of(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_nodes_go_on_in_other_processes(seed: int) -> None:
    played = _played(seed)
    assert played.violations == [], "\n".join([*played.logs[-60:], *played.done, *played.violations])


def test_the_seeds_are_at_every_step() -> None:
    assert {step for seed in SEEDS for step in _played(seed).hit} == set(STEPS)
    assert {turn.trouble for seed in SEEDS for turn in turns_of(seed)} == {"", *TROUBLES}
    assert sum(_played(seed).over for seed in SEEDS) > 2 * len(SEEDS)


def _released(process: str) -> Released:
    return Released(at=2.0, node=process, id="pair/a", epoch=1, version=1)


def test_a_release_after_the_surrender_is_found() -> None:
    audit: Audit = [_released("n1.1"), Surrendered(at=1.0, process="n1.1")]
    assert handed_on(audit, {}) == []
    assert "has surrendered" in handed_on([*audit, _released("n1.1")], {})[0]


def test_a_release_by_whoever_is_not_the_node_is_found() -> None:
    heirs = {"n1.1": (N1, 0), "n1.2": (N1, 1)}
    granted = Succeeded(at=1.0, about=N1, generation=1)
    assert handed_on([_released("n1.1"), granted, _released("n1.2")], heirs) == []
    assert "before it was" in handed_on([_released("n1.2"), granted], heirs)[0]
    assert "its heir is" in handed_on([granted, _released("n1.1")], heirs)[0]
