"""The end of a player: who is erased leaves first, as anybody does, and its row goes once everybody knows. Pure.

leaving -> the match and the party are told, as facts -> told all: nothing about anybody else is left in the row
"""

from msgspec.structs import replace

from game import places
from game.player.state import PlayerState


def erasing(state: PlayerState) -> PlayerState:
    """The player has left its match and its party, with their rosters to be told."""
    match = places.Places(places.Membership(state.match, state.birth, state.member), state.leaving, state.gone)
    match = places.depart(match, "left")
    party = replace(state.in_party, places=places.depart(state.in_party.places, "left"), invitations=())
    here, now = match.current, replace(state, status="offline", in_party=party, erased=True)
    return replace(now, match=here.name, birth=here.birth, member=here.number, leaving=match.leaving, gone=match.gone)


def has_left(state: PlayerState) -> bool:
    """Tell whether no roster has the player any more, and the row may go."""
    party = state.in_party.places
    return state.erased and not (state.match or state.leaving or party.current.name or party.leaving)
