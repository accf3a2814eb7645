"""Tables of columns of an application, and the rows that its actors add to them.

    RecordedEvents(Match, KILLS, kill_row)        a row for each durable event of a logged kind
    RecordedStates(Player, PRESENCE, seen_row)    a row for each turn that changed a state
    RecordedSnapshot(Match, MATCHES, match_row)   a row for each that lives on a node now, taken anew all the time

A function of rows is pure, short, and part of a turn's end or of a commit: it gets what is in memory anyway. None: no
row for this one. Where it raises, the row is lost and counted as a turn that crashed, and the work goes on. Nothing of
this runs where columns are switched off.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from server.actors.actor import Actor, LoggedActor
from server.columns.layout import Schema

Values = tuple[Any, ...]
"""A row without its time: a value for each column after it."""


def _no_time(_event: Any) -> int:
    return 0


class RecordedEvents(msgspec.Struct, frozen=True):
    """Rows of the events of a logged kind. `row(key, seq, event, state)`: `state` is a durable one that has the log's
    first event in it; what is read of it should be what that says and a match keeps, such as its map.

    With `place`, the names of the columns that have the key and the event's number, rows that are lost with the memory
    are loaded from the store again (`server/reloads/rule.py`); `told_ms(event)` is then the Unix time that an event
    says of itself, 0 for none."""

    actor: type[LoggedActor[Any]]
    schema: Schema
    row: Callable[[str, int, Any, Any], Values | None]
    place: tuple[str, str] | None = None
    told_ms: Callable[[Any], int] = _no_time


class RecordedStates(msgspec.Struct, frozen=True):
    """Rows of the changes of a kind's states. `row(key, before, after)`; the change may not be durable yet."""

    actor: type[Actor[Any]]
    schema: Schema
    row: Callable[[str, Any, Any], Values | None]


class RecordedSnapshot(msgspec.Struct, frozen=True):
    """Rows of what lives on a node (`server/snapshots.py`). `row(key, actor, state, now_ms)`: `state` is that of the
    last good turn; `actor` is asked for what it has in memory only, and nothing of it is called that changes it."""

    actor: type[Actor[Any]]
    schema: Schema
    row: Callable[[str, Any, Any, int], Values | None]


Recorded = RecordedEvents | RecordedStates | RecordedSnapshot
