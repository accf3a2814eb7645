"""Names of people in the events of a match: where they stand, and the same event with another key. Pure.

The table says of every text of every event what it is; one that it does not know fails a test, so that a new event
cannot carry names past an erasure.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from game.careers.events import MedalCount, Rated, Result
from game.match.events import (
    Described,
    HostChanged,
    Invited,
    Kicked,
    Named,
    PasswordSet,
    Property,
    Reserved,
    RoundEnded,
    SuccessorNamed,
    Uninvited,
    Unkicked,
)
from game.messages import (
    Assist,
    Created,
    Death,
    Ended,
    Joined,
    Kill,
    Left,
    MatchOptions,
    Medal,
    Objective,
    PartyJoined,
    PartyPlace,
    Score,
)
from server.eventlog.entry import Record
from server.texts import renamed as renamed_text

Field = Literal["key", "text", "inner", "plain"]
"""`key`: a player's key, or a list of such; `text`: words of people, in which a key may stand; `inner`: structs of this
table; `plain`: a word of the program's own."""

FIELDS: Final[Mapping[type, Mapping[str, Field]]] = {
    Created: {"host": "key", "options": "inner"},
    MatchOptions: {"mode": "plain", "map_name": "text", "source": "plain"},
    Joined: {"player": "key"},
    Left: {"player": "key", "reason": "plain"},
    PartyJoined: {"party": "text", "members": "inner"},
    PartyPlace: {"player": "key"},
    Kill: {"player": "key", "victim": "key"},
    Death: {"player": "key"},
    Assist: {"player": "key"},
    Medal: {"player": "key", "medal": "text"},
    Objective: {"player": "key", "name": "text"},
    Score: {"player": "key"},
    Ended: {"reason": "plain", "winner": "key"},
    RoundEnded: {"reason": "plain", "winner": "key"},
    Rated: {"season": "plain", "rating_group": "plain", "results": "inner"},
    Result: {"player": "key", "medals": "inner"},
    MedalCount: {"medal": "text"},
    Described: {"properties": "inner", "tags": "text"},
    Property: {"name": "plain", "value": "text"},
    PasswordSet: {"salt": "plain", "digest": "plain"},
    Invited: {"by": "key", "players": "key"},
    Uninvited: {"players": "key"},
    Reserved: {"players": "key", "party": "text"},
    Kicked: {"player": "key", "reason": "text"},
    Unkicked: {"player": "key"},
    SuccessorNamed: {"host": "key"},
    HostChanged: {"host": "key", "reason": "plain"},
    Named: {"player": "key", "name": "text"},
}
"""Fields of events, and of structs within them, that hold texts."""


def renaming(name: str, instead: str) -> Callable[[Record], Record]:
    """A function that gives a record with `instead` in the place of player `name`, and its display name gone; the same
    object where it does not name it."""

    def rename(record: Record) -> Record:
        event = _renamed(record.event, name, instead)
        if isinstance(event, Named) and record.event.player == name and event.name:
            event = replace(event, name=instead)
        lineage = record.lineage
        if lineage is not None and lineage.partition("/")[0] == name:
            lineage = f"{instead}/{lineage.partition('/')[2]}"
        if event is record.event and lineage is record.lineage:
            return record
        return replace(record, event=event, lineage=lineage)

    return rename


def _renamed(value: Any, name: str, instead: str) -> Any:
    """A struct of the table; the same object where nothing in it is the name."""
    fields = FIELDS.get(type(value))
    if fields is None:
        return value
    changes = {}
    for field, how in fields.items():
        before = getattr(value, field)
        after = before if how == "plain" else _field(before, how, name, instead)
        if after is not before:
            changes[field] = after
    return replace(value, **changes) if changes else value


def _field(value: Any, how: Field, name: str, instead: str) -> Any:
    if isinstance(value, list | tuple):
        many = [_field(each, how, name, instead) for each in value]
        return value if all(new is old for new, old in zip(many, value, strict=True)) else many
    if how == "inner":
        return _renamed(value, name, instead)
    if not isinstance(value, str):
        return value
    if how == "key":
        return instead if value == name else value
    after = renamed_text(value, name, instead)
    return value if after == value else after


def plain(value: Any) -> Any:
    """A struct as an object by field, whatever it is on the wire; an event's tag is its `kind`."""
    if isinstance(value, msgspec.Struct):
        tag = value.__struct_config__.tag
        fields = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        return {**({"kind": tag} if isinstance(tag, str) else {}), **fields}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    return None if value is msgspec.UNSET else value
