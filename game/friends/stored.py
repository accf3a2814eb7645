"""Relations as the row of a player's friends has them: for a login that watches its friends, without their actor.

Friends are written through, so that a list is in the row before anybody is told of it (`game/friends/actor.py`).
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from game.friends.messages import FriendChange
from game.friends.rules import said
from game.friends.state import Word
from server.actors.facts import Register
from server.actors.pictures import Relations


class StoredLink(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The beginning of a `Link`, its words as they stand there: of a friend, and most are, nobody blocks the other."""

    mine: msgspec.Raw
    theirs: msgspec.Raw
    state: FriendChange = "none"


_links: Final = msgspec.msgpack.Decoder(dict[str, StoredLink])
_word: Final = msgspec.msgpack.Decoder(Register[Word])


def relations_of(row: Mapping[str, Any] | None) -> Relations:
    """The same as `game.friends.rules.relations` of that row's state. Raises a `msgspec.MsgspecError`."""
    if row is None or row["links"] is None:
        return Relations(0, [], [])
    friends: list[str] = []
    hidden: list[str] = []
    for name, link in _links.decode(row["links"]).items():
        if link.state == "friend":
            friends.append(name)
        elif said(_word.decode(link.mine)).blocks or said(_word.decode(link.theirs)).blocks:
            hidden.append(name)
    return Relations(row["relations"], sorted(friends), sorted(hidden))
