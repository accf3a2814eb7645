"""A player's own half of its party, in the player's state. Pure.

`joined`, `left`, `heard_left`       the place (`game/places.py`), as the party tells of it, and is told
`stand`                              the player's word to its party whether it is here, said anew when that changes
`invited`, `open_invitations`        invitations, bounded and with an end

Words are numbered in each membership: an even one says that the player is here. The party begins with 0.
"""

from collections.abc import Collection
from typing import Final

import msgspec
from msgspec.structs import replace

from game import places
from game.places import Membership, Places

MAX_INVITATIONS: Final = 16


class Invitation(msgspec.Struct, array_like=True, frozen=True):
    """An invitation to `party`, its `number` there."""

    party: str
    number: int
    by: str
    until_wall_ms: int


class InParty(msgspec.Struct, array_like=True, frozen=True):
    """`word`: the newest word to the party that the player is in, `heard` the newest that the party has stored."""

    places: Places = Places()
    word: int = 0
    heard: int = 0
    invitations: tuple[Invitation, ...] = ()

    @property
    def party(self) -> str:
        """The party that the player is in; empty if none."""
        return self.places.current.name


NO_PARTY: Final = InParty()


def joined(state: InParty, party: str, birth: int, number: int, here: bool) -> InParty:
    """Be in that party, at its word; any other is left."""
    after = places.entered(state.places, Membership(party, birth, number))
    if after is state.places:
        return state
    others = tuple(other for other in state.invitations if other.party != party)
    return stand(InParty(after, invitations=others), here)


def left(state: InParty, party: str, birth: int, number: int) -> InParty:
    """Note that memberships up to `number` of that party are over, at its word."""
    after = places.ended(state.places, party, birth, number)
    if after is state.places:
        return state
    if after.current == state.places.current:
        return replace(state, places=after)
    return InParty(after, invitations=state.invitations)


def heard_left(state: InParty, party: str, birth: int, number: int) -> InParty:
    """Note that the party has stored that this membership is over."""
    after = places.heard(state.places, party, birth, number)
    return state if after is state.places else replace(state, places=after)


def stand(state: InParty, here: bool) -> InParty:
    """Say whether the player is here, where the newest word says something else."""
    if not state.party or here == (state.word % 2 == 0):
        return state
    return replace(state, word=state.word + 1)


def heard_word(state: InParty, party: str, number: int, word: int, refused: bool) -> InParty:
    """Note that the party has stored a word. `refused`: there is no such party, so the player is in none."""
    current = state.places.current
    if (current.name, current.number) != (party, number):
        return state
    if refused:
        return left(state, party, current.birth, number)
    return state if word <= state.heard else replace(state, heard=word)


def invited(state: InParty, invitation: Invitation, wall_ms: int) -> InParty:
    """Keep an invitation, in the place of an earlier one to the same party; where there are too many, the newest."""
    if any(other.party == invitation.party and other.number >= invitation.number for other in state.invitations):
        return state
    others = [other for other in open_invitations(state, wall_ms) if other.party != invitation.party]
    return replace(state, invitations=(*others, invitation)[-MAX_INVITATIONS:])


def without_inviters(state: InParty, inviters: Collection[str]) -> InParty:
    """Keep no invitation from these players."""
    kept = tuple(other for other in state.invitations if other.by not in inviters)
    return state if len(kept) == len(state.invitations) else replace(state, invitations=kept)


def open_invitations(state: InParty, wall_ms: int) -> list[Invitation]:
    """The invitations that are good, the oldest first."""
    return [other for other in state.invitations if other.until_wall_ms > wall_ms]
