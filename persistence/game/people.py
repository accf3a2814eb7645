"""Every table there is, with what an export of a person's data and an erasure do with it. `garrison person` goes by
this list, and a table that is missing from it fails a test (`tests/unit/test_people.py`).

    own        the column whose value is the person's key, of tables with rows of its own: exported whole. Of other rows
               that name it the export has the entries that do.
    deleted    the rows of its own go, with the row of the entity that they belong to
    actors     rows of other entities that name it: each entity drops it by itself (`forget`), since it may be in memory
    renamed    the key is replaced by a made-up one: what happened stays, to nobody
    reported   nothing of the game's is there; a row that names it is another application's, and an erasure says so
    log        a projection of logs, or the logs themselves: these are redacted, and the rows follow
    nothing    says nothing of people

State that is in no table: journals of nodes (what is not stored yet; an erasure waits until those of dead runs are
settled), boards and presence in memory (told at once), caches of clients and of other studios' programs (not ours).
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from sqlalchemy import Table

from persistence.engine import tables as engine_tables
from persistence.game import tables

Erased = Literal["deleted", "actors", "renamed", "log", "reported", "nothing"]


class Place(NamedTuple):
    """How a table names people; see the module's head. `also`: what becomes of rows that are not its own."""

    own: str | None
    erased: Erased
    also: Erased | None = None


PLACES: Final[Mapping[str, Place]] = {
    "players": Place("player_id", "deleted", "actors"),
    "careers": Place("player_id", "deleted"),
    "career_totals": Place("player_id", "deleted"),
    "career_medals": Place("player_id", "deleted"),
    "ratings": Place("player_id", "deleted"),
    "friends": Place("player_id", "deleted", "actors"),
    "friendships": Place("player_id", "deleted", "actors"),
    "standings": Place("subject", "deleted", "actors"),
    "moderation_acts": Place("subject", "renamed"),
    "parties": Place(None, "actors"),
    "party_members": Place("player_id", "renamed"),
    "matches": Place(None, "log"),
    "participants": Place("player_id", "log"),
    "match_properties": Place(None, "log"),
    "match_tags": Place(None, "log"),
    "log_chunks": Place(None, "log"),
    "actors": Place(None, "reported"),
    "redactions": Place(None, "nothing"),
    "log_recorders": Place(None, "nothing"),
    "tombstones": Place(None, "nothing"),
    "reminders": Place("key", "deleted"),
    "nodes": Place(None, "nothing"),
    "counters": Place(None, "nothing"),
    "database_identity": Place(None, "nothing"),
}
"""By the name of the table."""
KINDS: Final[Mapping[str, str]] = {
    "players": "player",
    "friends": "friends",
    "friendships": "friends",
    "standings": "standing",
    "parties": "party",
}
"""The kind of the actors whose rows a table has, where they forget; the first column of its primary key is theirs."""
TABLES: Final[Mapping[str, Table]] = {
    table.name: table
    for module in (engine_tables, tables)
    for table in vars(module).values()
    if isinstance(table, Table)
}
"""Every table of the engine and the game. Another application's, which may be loaded too, are not among them."""
