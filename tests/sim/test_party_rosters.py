"""Parties and players in the simulated cluster; the checker against a sound store and planted differences."""

from typing import Any

import pytest

from game.party.place import InParty
from game.party.state import Member, PartyState, Word
from game.places import Membership, Places
from game.player.state import PlayerState
from tests.sim.parties import late_words, parties, parties_differ
from tests.sim.uninvited import uninvited

ANN = PlayerState(status="online", in_party=InParty(Places(Membership("p", 7, 3))))
PARTY = PartyState(leader="ann", room=4, created_wall_ms=7, members={"ann": Member(3, 7)})


@pytest.mark.parametrize("seed", [1, 2])
def test_parties_and_players_agree_after_a_storm(seed: int) -> None:
    assert parties(seed) == []


def test_words_that_come_late_end_no_newer_membership() -> None:
    assert late_words(1) == []


def test_a_sound_store_of_parties_passes() -> None:
    assert parties_differ({"p": PARTY}, {"ann": ANN}, away=False) == []


@pytest.mark.parametrize(
    ("found", "players"),
    [
        ({"p": PARTY}, {}),
        ({}, {"ann": ANN}),
        ({"p": PARTY, "q": PARTY}, {"ann": ANN}),
        ({"p": PartyState(leader="bob", room=4, created_wall_ms=7, members=PARTY.members)}, {"ann": ANN}),
        ({"p": PartyState("ann", 4, created_wall_ms=7, members={"ann": Member(3, 7, word=1)})}, {"ann": ANN}),
        (
            {"p": PartyState("ann", 4, created_wall_ms=7, members=PARTY.members, untold={"x": Word(1, True)})},
            {"ann": ANN},
        ),
        ({}, {"ann": PlayerState(in_party=InParty(Places(leaving=(Membership("p", 7, 3),))))}),
    ],
    ids=["ghost", "no party", "two", "leader", "away", "untold", "to tell"],
)
def test_catches_a_difference_of_parties(found: Any, players: Any) -> None:
    assert parties_differ(found, players, away=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_block_takes_an_invitation_away_whatever_is_lost(seed: int) -> None:
    assert uninvited(seed) == []
