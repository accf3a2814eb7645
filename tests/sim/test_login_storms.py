"""Logins in the simulated cluster: one seed of each policy, and what its checks must catch."""

from collections.abc import Callable

import pytest

from tests.sim.late_logins import late_logins
from tests.sim.logins import POLICIES, logins
from tests.sim.lost_logins import overtaken, unheard, unseen
from tests.sim.mutants import rewritten


@pytest.mark.parametrize("seed", range(1, len(POLICIES) + 1))
def test_as_many_sessions_stay_as_the_policy_allows(seed: int) -> None:
    assert logins(seed) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_late_words_of_sessions_change_nothing(seed: int) -> None:
    assert late_logins(seed) == []


@pytest.mark.parametrize("scenario", [unheard, unseen, overtaken])
def test_a_login_is_known_though_a_rare_word_of_it_is_lost(scenario: Callable[[int], list[str]]) -> None:
    assert scenario(2) == []


def test_a_session_too_many_is_caught() -> None:
    with rewritten("server.actors.devices:keep", "policy.removeprefix(ALLOW) if", "'9' if"):
        assert any("as many sessions as the policy allows" in line for line in logins(1))
