"""Pictures: what a player's actor shows of itself to those who watch the player, and what its friends may see.

    self.show()         somebody is here, and may look different from after this turn on
    def look(self)      how: `Look(Pictures(everybody, friends, own), relations)`, asked when somebody wants to know
    self.withdraw()     nobody is here

A picture is a value of the application as msgpack, always whole, never a patch. There is one for each of those who
look: everybody, friends, and the player's own devices. Whoever is blocked sees none of them. Pictures that nobody
would see are not made: most players are watched by nobody at most times, and change all the same. Pure.
"""

from typing import Final, NamedTuple, Protocol

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


class Look(NamedTuple):
    """How an actor looks. `relations` is the number of the newest list of relations that it has heard of."""

    pictures: Pictures
    relations: int = 0


class Showing(msgspec.Struct, frozen=True, array_like=True):
    """The looks of an activation when somebody wanted to know: `n` counts those that were different from the ones
    before, and goes along where it moves; without `pictures` nobody is here."""

    n: int
    pictures: Pictures | None
    relations: int


NEVER_SHOWN: Final = Showing(0, None, 0)


class ShownActor(Protocol):
    """An activation that shows itself."""

    @property
    def epoch(self) -> int:
        """The number of the claim by which its node owns it."""
        ...

    @property
    def seen(self) -> Showing:
        """How it looked when it was asked last."""
        ...

    def showing(self) -> Showing:
        """How it looks now, as far as that is durable. What is asked for twice is made once."""
        ...


def check_shown(pictures: Pictures | None, relations: int) -> None:
    """Raises `Internal` for a picture over its bound, or a number of relations that is none."""
    if not 0 <= relations <= MAX_RELATIONS:
        raise Internal(f"the number of a list of relations is {relations}")
    if pictures is not None:
        size = max(len(pictures.everybody), len(pictures.friends), len(pictures.own))
        if size > MAX_PICTURE_BYTES:
            raise Internal(f"a picture has {size} bytes; at most {MAX_PICTURE_BYTES} are shown")
