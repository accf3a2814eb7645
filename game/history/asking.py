"""A question for matches that are over, as the store gets it, and cursors of its pages. Pure.

A cursor is the place of a page's last match, by when it ended and its name, with a digest of the filters. So it stays
good while matches come and go, the one that it names among them, and is refused for other filters: a page there would
begin anywhere.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from game.fields import Key
from game.history.messages import HistoryRow, MatchHistory, MatchPageGet
from game.match.describing import number_of, text_of
from game.match.hosting import host_name
from game.messages import PropertyIs
from server.actors.actor import Caller
from server.errors import BadInput

_LEGAL: Final = re.compile(r"[a-z][a-z0-9_.-]{0,31}", re.ASCII)
SEES_ALL: Final[Mapping[str, Any]] = {"viewer": None}
"""The asking one is an operator or a service."""


class Place(msgspec.Struct, array_like=True, frozen=True):
    """The place of a match in the history of some filters."""

    filters: Annotated[bytes, Meta(min_length=8, max_length=8)]
    ended_wall_ms: Annotated[int, Meta(ge=0, le=2**53)]
    match: Annotated[Key, Meta(min_length=1, max_length=64)]


_place: Final = msgspec.msgpack.Decoder(Place)


def viewer(caller: Caller) -> Mapping[str, Any]:
    """The parameters of a query that say who asks."""
    if caller.role in ("service", "node"):
        return SEES_ALL
    name = host_name(caller.role, caller.subject)
    return {"viewer": caller.subject if caller.role == "player" else "", "viewer_host": name}


def history_params(who: Mapping[str, Any], message: MatchHistory) -> dict[str, Any]:
    """The parameters of query `match_history`, one row more than the page has. Raises `BadInput`."""
    if message.player is None and (message.opponent is not None or message.result is not None):
        raise BadInput("opponent and result go with a player")
    for wanted in message.properties:
        if not _LEGAL.fullmatch(wanted.name):
            raise BadInput(f"no match has a property {wanted.name!r}: that is no name of one")
    place = _after(message)
    return {
        **who,
        "player": message.player or "",
        "opponent": message.opponent or "",
        "mode": message.mode,
        "map_name": message.map_name,
        "properties": [stored(wanted) for wanted in message.properties],
        "tags": message.tags,
        "result": message.result,
        "from_ms": message.from_ms,
        "to_ms": message.to_ms,
        "imported": message.imported,
        "end_ms": 0 if place is None else place.ended_wall_ms,
        "end_match": "" if place is None else place.match,
        "limit": message.limit + 1,
    }


def page_params(who: Mapping[str, Any], message: MatchPageGet) -> dict[str, Any]:
    """The parameters of query `match_page`."""
    return {**who, "match": message.match, "skip": message.skip, "limit": message.limit}


def stored(wanted: PropertyIs) -> dict[str, Any]:
    """A property as its row has it."""
    return {"name": wanted.name, "value": text_of(wanted.value), "number": number_of(wanted.value)}


def cursor_after(message: MatchHistory, row: HistoryRow) -> str:
    """The cursor of the page that follows `row`."""
    packed = msgspec.msgpack.encode(Place(_digest(message), row.ended_wall_ms, row.match))
    return urlsafe_b64encode(packed).decode().rstrip("=")


def _after(message: MatchHistory) -> Place | None:
    """The place after which the page begins. Raises `BadInput`."""
    if not message.cursor:
        return None
    try:
        padding = "=" * (-len(message.cursor) % 4)
        place = _place.decode(urlsafe_b64decode(message.cursor.encode() + padding.encode()))
    except (ValueError, msgspec.MsgspecError):
        raise BadInput("cursor is the next of another page") from None
    if place.filters != _digest(message):
        raise BadInput("cursor is of a page with other filters: it goes on with those")
    return place


def _digest(message: MatchHistory) -> bytes:
    filters = replace(message, id=0, limit=1, cursor="")
    return blake2b(msgspec.msgpack.encode(filters), digest_size=8).digest()
