"""Each condition of the ownership rules, taken out, is found; and what cannot be is named with its reason."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.sim.mutants import ALL, SCENARIOS, first_seed, in_order, play, rewritten
from tests.sim.mutations import STORE, Mutant


def of(mutants: Iterable[Mutant]) -> list[Any]:
    """Mutants of one scenario share a process, and with it what the scenario shows without any."""
    return [pytest.param(mutant, id=mutant.name) for mutant in mutants]


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", of(mutant for mutant in ALL if not mutant.unseen))
def test_a_missing_condition_is_found(mutant: Mutant) -> None:
    seed, _ = first_seed(mutant, in_order(mutant))
    assert seed is not None


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", of(mutant for mutant in ALL if mutant.unseen))
def test_a_condition_behind_another_one_can_go(mutant: Mutant) -> None:
    assert play(mutant, 1) == []


def test_every_rule_has_its_mutants() -> None:
    assert {mutant.rule for mutant in ALL} == set(range(1, 15))
    assert len({mutant.name for mutant in ALL}) == len(ALL)


@pytest.mark.parametrize("mutant", of(ALL))
def test_the_words_of_a_mutant_are_in_the_code(mutant: Mutant) -> None:
    with ExitStack() as stack:
        for edit in mutant.edits:
            stack.enter_context(rewritten(*edit))
        assert mutant.scenario in SCENARIOS


def test_a_mutant_whose_condition_is_gone_fails() -> None:
    with pytest.raises(LookupError), rewritten(f"{STORE}.renew_lease", "no such words", ""):
        pass
