"""`garrison person`: everything that is kept about a player, exported as one JSON document, or erased.

An export reads the store; no cluster needs to run. What is in memory or in a journal only, up to a second's changes of
a player who is here, is not in it. One window of rows, or one log, is in memory at a time.

An erasure works beside a cluster that runs, with the store and with a node's admin API: actors are in the memory of
nodes, and nobody else changes their rows. `game/people/erasing.py` has its steps.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter

from game.commands.files import written_whole
from game.people.erasing import Erasure, Told
from game.people.names import plain
from game.replay import MATCH
from server.cli.admin_side import BY_SETTINGS, AdminOptions, AdminSide, NoAnswer
from server.cli.common import Config, Json, Set, err, out, print_json, seconds_of
from server.cli.config import read_settings
from server.cli.stored import opened_store
from server.drivers import build_store_queries, load_app
from server.errors import BadInput, Corrupt, NotFound, Unavailable
from server.eventlog.entry import decode_record
from server.eventlog.fold import holding
from server.eventlog.redaction import PREFIX, is_made_up
from server.ids import ActorId, actor_id, key_of, kind_of
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

ERASE_EXAMPLES = """
Examples:

- `garrison person erase spartan-117` counts what names the player; nothing is changed
- `garrison person erase spartan-117 --yes` erases it, beside a cluster that runs
- `garrison person erase spartan-117 --yes --forgive` keeps no ban either
"""
PASS_EVERY_S: Final = 1.0

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


# ---- erasure --------------------------------------------------------------------------------


def erase(
    player: Annotated[str, Parameter(help="The player's key.")],
    /,
    *,
    yes: Annotated[bool, Parameter(help="Do it: it cannot be undone.", negative="", show_default=False)] = False,
    forgive: Annotated[
        bool, Parameter(help="Keep no ban: without this a ban in force holds, under a hash.", negative="")
    ] = False,
    wait: Annotated[str, Parameter(help="How long to go on: 90s, 15m.")] = "2m",
    json: Json = False,
    admin: AdminOptions = BY_SETTINGS,
) -> int:
    """Erase a player from every table and every log. Without --yes: count what names it."""
    settings = admin.settings()
    name = key_of(actor_id("player", player))
    if is_made_up(name):
        raise BadInput(f"{name} stands for somebody who was erased")
    if not yes:
        return asyncio.run(_count(settings, name, json))
    asks = AdminAsks(AdminSide.of(settings, admin.url, admin.token), name)
    told = asyncio.run(_erase(settings, name, forgive, seconds_of(wait, "--wait"), asks))
    if json:
        print_json(msgspec.json.encode(told))
    else:
        _show(name, told)
    return 0 if told.done and not told.stays else 1


async def _count(settings: Settings, name: str, json: bool) -> int:
    """Tell what an erasure would find; nothing is changed."""
    from persistence.game.erasing import SqlNamedRows

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(settings))
        rows = SqlNamedRows(settings.store)
        stack.push_async_callback(rows.close)
        tables = {**await rows.left(name), **await rows.reported(name)}
        damaged: list[dict[str, str]] = []
        logs: dict[str, int] = {}
        async for event in events_of(store, name, damaged):
            logs[event["match"]] = logs.get(event["match"], 0) + 1
    if json:
        print_json(msgspec.json.encode({"person": name, "rows": tables, "logs": logs, "unreadable_logs": damaged}))
        return 0
    for table, count in tables.items():
        out().print(f"{table}: {count:,} rows")
    out().print(f"logs: {sum(logs.values()):,} events of {len(logs):,} matches; {len(damaged):,} cannot be read")
    out().print(f"nothing was changed; `garrison person erase {name} --yes` erases it", markup=False)
    return 0


async def _erase(settings: Settings, name: str, forgive: bool, wait_s: float, ask: "AdminAsks") -> Told:
    """Make passes until nothing names the player, or the time is over."""
    from persistence.game.erasing import SqlNamedRows

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(settings, writes=True))
        rows = SqlNamedRows(settings.store)
        stack.push_async_callback(rows.close)
        hashed = PREFIX + (await store.hash_of(name)).hex()[:16]
        await ask.audit(hashed)
        if forgive:
            await store.pardon(name)
        erasure = Erasure(name, store=store, rows=rows, ask=ask, secret=os.urandom(16), keeps_ban=not forgive)
        until = time.monotonic() + wait_s
        while not await _passed(erasure) and time.monotonic() < until:
            err().print(f"pass {erasure.told.passes}: {'; '.join(erasure.told.waits[:2])}", markup=False)
            await asyncio.sleep(PASS_EVERY_S)
        missing = await ask.forget_in_columns()
        if missing:
            erasure.told.stays.append(f"the columns of {', '.join(missing)} may name it, until they are too old")
        for table, count in (await rows.reported(name)).items():
            erasure.told.stays.append(f"{count} rows of {table} name it, which is not the game's")
        return erasure.told


async def _passed(erasure: Erasure) -> bool:
    try:
        return await erasure.run_pass(time.time_ns() // 1_000_000)
    except NoAnswer:
        raise
    except Unavailable as error:
        erasure.told.wait(error.message)
        return False


class AdminAsks:
    """Implements `game.people.erasing.Asks` by the admin API of a node."""

    def __init__(self, side: AdminSide, person: str) -> None:
        self._side, self._person = side, person

    async def __call__(self, identity: ActorId, method: str, *args: str) -> Any:
        body = {"step": method, "kind": kind_of(identity), "key": key_of(identity)}
        told = await self._post({**body, **({"instead": args[1]} if len(args) > 1 and args[1] else {})})
        if not told["found"]:
            raise NotFound(f"no {identity}")
        return told["over"]

    async def audit(self, hashed: str) -> None:
        """Note in the log of moderation that somebody was erased, by the hash of its key."""
        await self._post({"step": "audit", "kind": "standing", "key": hashed, "lineage": os.urandom(8).hex()})

    async def forget_in_columns(self) -> list[str]:
        """Have every node let go of rows of its recent past that name the player; the nodes that have not said so."""
        body, has = {"text": self._person}, ("missing",)
        told = await asyncio.to_thread(self._side.ask, "/api/v1/questions/forget", body=body, has=has)
        missing: list[str] = msgspec.json.decode(told)["missing"]
        return missing

    async def _post(self, body: dict[str, str]) -> Any:
        whole = {**body, "person": self._person}
        has = ("found", "over")
        told = await asyncio.to_thread(self._side.ask, "/api/v1/actions/erase-person", body=whole, has=has)
        return msgspec.json.decode(told)


def _show(name: str, told: Told) -> None:
    console = out()
    console.print(
        f"{told.passes} passes: {told.forgot:,} entities have forgotten it, {told.renamed:,} rows have another key, "
        f"{told.logs:,} logs are redacted"
    )
    for why in told.stays:
        console.print(f"stays: {why}", markup=False)
    for why in told.waits:
        console.print(f"waits: {why}", markup=False)
    if told.done:
        console.print(f"nothing names {name} any more, in any table or log that could be read", markup=False)
    else:
        console.print(
            f"{told.waiting:,} things are left: run it again, it goes on; until then {name} cannot log in", markup=False
        )


def register(app: App) -> None:
    person = App(name="person", help="Everything that is kept about a player: export it, erase it.")
    person.command(export, name="export", help_epilogue=EXAMPLES)
    person.command(erase, name="erase", help_epilogue=ERASE_EXAMPLES)
    app.command(person)
