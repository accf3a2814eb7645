"""Pictures: what a player's actor shows of itself to those who watch the player, and what its friends may see.

    self.show(Pictures(everybody, friends, own), relations)      somebody is here, and this is how it looks
    self.show(None, relations)                                   nobody is here

A picture is a value of the application as msgpack, always whole, never a patch. There is one for each of those who
look: everybody, friends, and the player's own devices. Whoever is blocked sees none of them. Pure.
"""

from typing import Final

import msgspec

from server.errors import Internal

MAX_PICTURE_BYTES: Final = 2_048
MAX_RELATIONS: Final = 2**53 - 1
"""The greatest number of a list of relations."""


class Pictures(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a player looks to everybody, to friends and to itself: each a value as msgpack, `MAX_PICTURE_BYTES` at
    most. Where two of them are equal, give the same object twice: it is in memory once."""

    everybody: bytes
    friends: bytes
    own: bytes


class Relations(msgspec.Struct, frozen=True, array_like=True):
    """A player's relations, as of a list with `number`, which rises with each change: `friends` may see more of the
    player, and the player of them; `hidden` are those whom the player does not see: they block it, or it them."""

    number: int
    friends: list[str]
    hidden: list[str]


class Showing(msgspec.Struct, frozen=True, array_like=True):
    """The looks of an activation: `n` counts the visible changes, and goes along where it moves; without `pictures`
    nobody is here. `relations` is the number of the newest list of relations that the actor has heard of."""

    n: int
    pictures: Pictures | None
    relations: int


def check_shown(pictures: Pictures | None, relations: int) -> None:
    """Raises `Internal` for a picture over its bound, or a number of relations that is none."""
    if not 0 <= relations <= MAX_RELATIONS:
        raise Internal(f"the number of a list of relations is {relations}")
    if pictures is not None:
        size = max(len(pictures.everybody), len(pictures.friends), len(pictures.own))
        if size > MAX_PICTURE_BYTES:
            raise Internal(f"a picture has {size} bytes; at most {MAX_PICTURE_BYTES} are shown")
