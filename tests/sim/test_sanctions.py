"""Bans, kicks and revocations in the simulated cluster; the checks against a sound state and planted differences."""

from typing import Any

import pytest

from game.moderation.rules import FOR_GOOD
from game.moderation.state import Act, StandingState
from game.player.state import PlayerState
from server.actors.facts import Stamp
from tests.sim.sanctions import acts_lost, ghosts, sanctions, unequal_mirrors

ACT = Act(1, 5, "ban", "judge", "service", "", FOR_GOOD, "l", 1)
SOUND = {"ann": StandingState(FOR_GOOD, number=Stamp(1, 1), told=Stamp(1, 1), acts=(ACT,))}
MIRROR = {"ann": PlayerState(banned_until_ms=FOR_GOOD)}


@pytest.mark.parametrize("seed", [1, 3])
def test_sanctions_hold_after_a_storm(seed: int) -> None:
    assert sanctions(seed) == []


def test_a_sound_state_passes() -> None:
    assert ghosts(SOUND, {"bob": "n1"}, 9) == []
    assert unequal_mirrors(SOUND, MIRROR) == []
    assert acts_lost(SOUND, {("ann", 1): 1}) == []
    assert ghosts({"ann": StandingState(8)}, {"ann": "n1"}, 9) == [], "that ban is over"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ghosts(SOUND, {"ann": "n1"}, 9),
        lambda: unequal_mirrors(SOUND, {}),
        lambda: unequal_mirrors(SOUND, {"ann": PlayerState(banned_until_ms=7)}),
        lambda: unequal_mirrors({"ann": StandingState(number=Stamp(1, 1))}, {}),
        lambda: acts_lost({}, {("ann", 1): 1}),
        lambda: acts_lost(SOUND, {("ann", 1): 2}),
        lambda: acts_lost({"ann": StandingState(acts=(ACT, ACT))}, {("ann", 1): 1}),
    ],
    ids=["ghost", "no mirror", "another end", "untold", "no act", "another act", "twice"],
)
def test_a_difference_is_caught(wrong: Any) -> None:
    assert wrong()
