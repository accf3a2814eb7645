"""How an application shows its players to those who watch them: what it says of somebody who is not here.

What somebody who is here looks like is said by the session's actor itself, with `Actor.show` and
`Actor.look` (`server/actors/pictures.py`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from server.actors.actor import Actor
from server.actors.methods import check_remote
from server.actors.pictures import MAX_PICTURE_BYTES, Pictures, Relations
from server.errors import BadSetting


class PresenceKind(msgspec.Struct, frozen=True):
    """See the module's head. `gone(row)` are the pictures of a player who is offline: `row` is the player's row of the
    store query `query` (called with `{"keys": [...]}`, at most 500 at a time; rows have the column `key` and any
    others), None where there is none. It is pure and quick. Without a `query` it is always None.

    `unknown` is what is seen where nobody can tell whether a player is here; `hidden` is what is seen by somebody who
    is blocked: the same as of a player who is offline. Values as msgpack, as in `Pictures`.

    `relations` is the class of the actor, with the player's subject as its key, of which
    `relations(self, caller: Caller) -> Relations`, marked `@read_only`, gives the player's relations; None: everybody
    is a stranger. Where that actor is written through, so that a list is stored before anybody hears of it,
    `stored_relations` saves an activation for each login: the name of a store query, called and answered as `query`,
    and the function that makes relations of its row, pure and quick as `gone`."""

    gone: Callable[[Mapping[str, Any] | None], Pictures]
    unknown: bytes
    hidden: bytes
    query: str | None = None
    relations: type[Actor[Any]] | None = None
    stored_relations: tuple[str, Callable[[Mapping[str, Any] | None], Relations]] | None = None


def check_presence(kind: PresenceKind) -> None:
    """Raises `BadSetting` for values over their bounds, and for a class that tells no relations."""
    for name in ("unknown", "hidden"):
        if not 0 < len(getattr(kind, name)) <= MAX_PICTURE_BYTES:
            raise BadSetting("app", f"presence.{name} has 1 to {MAX_PICTURE_BYTES} bytes")
    if kind.relations is not None:
        check_remote(kind.relations, "relations")
