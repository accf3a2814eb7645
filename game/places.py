"""Numbered places of a player: in a match, in a party. Pure.

The player's own word, the *current* place, is the truth, and rosters mirror it. What takes the player in (a match, a
party) numbers each place that it gives, rising for ever, and tells the player of it as a fact, any number of times and
in any order. So a place that the player has left is remembered (a tombstone), and a place below that is not entered
again; and one that was left by the player's own doing is told to its roster until that has stored it. Whatever comes
late names a number, and ends that place only, never a newer one in the same roster.

Functions that change nothing give the same object back.
"""

from typing import Final

import msgspec
from msgspec.structs import replace

MAX_GONE: Final = 16
"""Rosters of which is remembered up to which place the player has left them. What is said late is about a newer one."""


class Membership(msgspec.Struct, array_like=True, frozen=True):
    """A player's place in a roster: `number` says which of its places in the one of that `name` and `birth`. `reason`
    is why it leaves, while the roster is to be told."""

    name: str
    birth: int = 0
    number: int = 0
    reason: str = ""


NOWHERE: Final = Membership("")


class Places(msgspec.Struct, array_like=True, frozen=True):
    """`current` is the place that the player is in, `NOWHERE` if none. `leaving` are places whose rosters do not
    know yet that they are free, `gone` those left lately, so that what is said late about them is known as such."""

    current: Membership = NOWHERE
    leaving: tuple[Membership, ...] = ()
    gone: tuple[Membership, ...] = ()


def entered(places: Places, place: Membership, moves: bool = True) -> Places:
    """Make `place` the current one, and leave that in any other roster: a player is in one at a time. Nothing for a
    place that the player has left, whenever its roster says so. Without `moves` the roster takes nobody out of another
    one: where the player is in one, it is `place` that is left at once, for the reason `in_another_match`."""
    if place.number and place.number <= _left_up_to(places, place):
        return places
    if is_current(places, place.name, place.birth):
        if place.number <= places.current.number:
            return places
    elif not moves and places.current.name:
        refused = replace(place, reason="in_another_match")
        return replace(_remember_left(places, refused), leaving=(*places.leaving, refused))
    else:
        places = depart(places, "left")
    unnumbered = (place.name, 0)  # a place of an earlier version, which this one takes over
    leaving = tuple(other for other in places.leaving if (other.name, other.number) != unnumbered)
    return replace(places, current=Membership(place.name, place.birth, place.number), leaving=leaving)


def depart(places: Places, reason: str) -> Places:
    """Leave the current place, if there is one: its roster is told until it knows."""
    if not places.current.name:
        return places
    place = replace(places.current, reason=reason)
    return replace(_remember_left(places, place), current=NOWHERE, leaving=(*places.leaving, place))


def ended(places: Places, name: str, birth: int = 0, number: int = 0) -> Places:
    """Note that the roster itself says that places up to `number` (0: all) in it are over. `birth` is 0 where it does
    not say which one of that name it is."""
    over = {
        place
        for place in places.leaving
        if (place.name, place.birth) == (name, birth) and (not number or place.number <= number)
    }
    if over:
        places = replace(places, leaving=tuple(place for place in places.leaving if place not in over))
    if is_current(places, name, birth) and (not number or places.current.number <= number):
        place = Membership(name, places.current.birth, max(number, places.current.number))
        return replace(_remember_left(places, place), current=NOWHERE)
    place = Membership(name, birth, number)
    return places if number <= _left_up_to(places, place) else _remember_left(places, place)


def heard(places: Places, name: str, birth: int, number: int) -> Places:
    """Note that the roster has stored that place `number` is free, or is over, or never was."""
    leaving = tuple(
        place for place in places.leaving if (place.name, place.birth, place.number) != (name, birth, number)
    )
    return places if len(leaving) == len(places.leaving) else replace(places, leaving=leaving)


def is_current(places: Places, name: str, birth: int) -> bool:
    """Whether that is the roster the player is in. Earlier versions did not tell a birth."""
    current = places.current
    return current.name == name != "" and (birth == current.birth or 0 in (birth, current.birth))


def _left_up_to(places: Places, place: Membership) -> int:
    """The highest number of a place in that roster that the player has left."""
    same = (left.number for left in places.gone if (left.name, left.birth) == (place.name, place.birth))
    return max(same, default=0)


def _remember_left(places: Places, place: Membership) -> Places:
    """Remember that places up to `place` in that roster are left; one without a number cannot be."""
    if not place.number:
        return places
    kept = [other for other in places.gone if (other.name, other.birth) != (place.name, place.birth)]
    highest = Membership(place.name, place.birth, max(place.number, _left_up_to(places, place)))
    return replace(places, gone=(*kept, highest)[-MAX_GONE:])
