"""`garrison person export`: everything that is kept about a player, as one JSON document.

Reads the store; no cluster needs to run. What is in memory or in a journal only, up to a second's changes of a player
who is here, is not in it. One window of rows, or one log, is in memory at a time.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter

from game.commands.files import written_whole
from game.people.names import plain
from game.replay import MATCH
from server.cli.common import Config, Set, err, read_settings
from server.cli.stored import opened_store
from server.drivers import build_store_queries, load_app
from server.errors import Corrupt, NotFound
from server.eventlog.entry import decode_record
from server.eventlog.fold import holding
from server.ids import ActorId, actor_id, key_of
from server.settings import Settings
from server.texts import is_named

if TYPE_CHECKING:
    from persistence.people import People
    from persistence.sql_store import SqlStore

PAGE: Final = 500
FORMAT: Final = "garrison.person"
VERSION: Final = 1

EXAMPLES = """
Examples:

- `garrison person export spartan-117 --to spartan-117.json` everything that is kept about a player
- `garrison person export spartan-117 | jq .tables.friendships`
"""

Write = Callable[[bytes], object]


def export(
    player: Annotated[str, Parameter(help="The player's key.")],
    /,
    *,
    to: Annotated[Path | None, Parameter(help="The file to write; without it, standard output.")] = None,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Write everything that is kept about a player, as one JSON document."""
    settings = read_settings(config, set_)
    name = key_of(actor_id("player", player))
    if to is None:
        found = asyncio.run(_export(settings, name, lambda data: sys.stdout.write(data.decode())))
        sys.stdout.flush()
    else:
        with written_whole(to) as stream:
            found = asyncio.run(_export(settings, name, stream.write))
            _must_be_known(found, name)
        err().print(f"{found:,} rows and events that name {name} are in {to}", markup=False)
    _must_be_known(found, name)
    return 0


def _must_be_known(found: int, name: str) -> None:
    if not found:
        raise NotFound(f"nothing is kept about a player {name!r}")


async def _export(settings: Settings, name: str, write: Write) -> int:
    """Write the document; returns how many rows and events it has. Raises `Unavailable`, `BadSetting`."""
    from persistence.people import People

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(settings))
        people = People(settings.store)
        stack.push_async_callback(people.close)
        head = {"format": FORMAT, "version": VERSION, "person": name, "exported_ms": time.time_ns() // 1_000_000}
        write(msgspec.json.encode(head)[:-1])
        write(b',\n"states":')
        write(msgspec.json.encode(await _states(settings, store, name)))
        write(b',\n"tables":{')
        found = await _tables(people, name, write)
        write(b'},\n"recently_met":')
        write(msgspec.json.encode(await _met(settings, name)))
        write(b',\n"events":[')
        damaged: list[dict[str, str]] = []
        first = True
        async for event in events_of(store, name, damaged):
            write((b"\n" if first else b",\n") + msgspec.json.encode(event))
            first, found = False, found + 1
        write(b'],\n"unreadable_logs":')
        write(msgspec.json.encode(damaged))
        write(b"}\n")
        return found


async def _states(settings: Settings, store: "SqlStore", name: str) -> dict[str, Any]:
    """The states of the entities that are the player's own, by kind, with fields by name. A damaged one says so."""
    found: dict[str, Any] = {}
    for cls in load_app(settings).actors:
        if not cls.personal or cls.durability == "volatile":
            continue
        identity = actor_id(cls.kind, name)
        stored = (await store.read(cls.kind, [identity])).get(identity)
        if stored is not None:
            damage = isinstance(stored.state, Corrupt)
            found[cls.kind] = {"damaged": stored.state.message} if damage else plain(stored.state)
    return found


async def _tables(people: "People", name: str, write: Write) -> int:
    """Write the rows that name the person, by table: rows of its own whole, of others the entries that do."""
    from persistence.game.people import PLACES, TABLES
    from persistence.people import entries

    count = 0
    for table_name in sorted(PLACES):
        place, table = PLACES[table_name], TABLES[table_name]
        if place.erased == "nothing":
            continue
        begun = False
        async for row in people.rows(table, name):
            key = {column.name: row[column.name] for column in table.primary_key.columns if column.name in row}
            own = place.own is not None and row[place.own] == name
            shown = {"row": row} if own else {"key": key, "entries": dict(entries(row, name))}
            write((b",\n" if count else b"\n") + (b"" if begun else _name(table_name)))
            write(msgspec.json.encode(plain(shown)))
            begun, count = True, count + 1
        if begun:
            write(b"]")
    return count


def _name(table: str) -> bytes:
    return msgspec.json.encode(table) + b":["


async def _met(settings: Settings, name: str) -> list[dict[str, Any]]:
    queries = build_store_queries(settings)
    try:
        return await queries.run("recent_players", {"player": name})
    finally:
        await queries.close()


async def events_of(store: "SqlStore", name: str, damaged: list[dict[str, str]]) -> AsyncIterator[dict[str, Any]]:
    """Every event of every match that names the person. A log that cannot be read is added to `damaged`."""
    async for identity in every_log(store):
        try:
            log = await store.read_log(MATCH.name, identity)
            for entry in holding(log, name.encode()) if log is not None else ():
                record = decode_record(entry, MATCH.event_type)
                event = plain(record.event)
                lineage = record.lineage or ""
                if is_named(lineage, name) or _names(event, name):
                    yield {"match": key_of(identity), "seq": entry.seq, "ms": entry.time_ms, **event}
        except Corrupt as error:
            damaged.append({"match": key_of(identity), "why": error.message})


def _names(value: Any, name: str) -> bool:
    from persistence.people import names

    return names(value, name)


async def every_log(store: "SqlStore") -> AsyncIterator[ActorId]:
    """The ids of all matches that have an event."""
    after: ActorId | None = None
    while page := await store.list_logs(MATCH.name, PAGE, after):
        for identity in page:
            yield identity
        after = page[-1]


def register(app: App) -> None:
    person = App(name="person", help="Everything that is kept about a player: export it.")
    person.command(export, name="export", help_epilogue=EXAMPLES)
    app.command(person)
