"""Migrations on real databases, and what the stores say when a database is not there."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import structlog
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

import migrations
from persistence.engine.tables import SCHEMA_VERSION
from persistence.game.queries import QUERIES
from persistence.sql_queries import SqlStoreQueries
from server.errors import BadSetting, Corrupt, Unavailable
from server.eventlog.ports import Append
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId
from server.settings import StoreSettings
from server.storage.ports import Change, Claim, Owned, Reminder
from tests.support.databases import (
    SQL_DATABASES,
    Tally,
    Wallet,
    empty_url,
    fresh,
    postgres_server,
    sql_store,
    sqlite_url,
)
from tests.support.waiting import until

OURS = {"nodes", "counters", "actors", "log_chunks", "players", "matches", "participants", "reminders"}
OURS |= {"database_identity", "careers"}
OURS |= {"standings", "moderation_acts"}
OURS |= {"friends", "friendships"}
OURS |= {"parties", "party_members", "match_properties", "match_tags"}
OURS |= {"career_totals", "career_medals", "ratings"}
OURS |= {"redactions", "tombstones", "log_recorders"}
ONE = ActorId("wallet/one")


@pytest.fixture(params=SQL_DATABASES)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return empty_url(request.param, tmp_path)


def tables(url: str) -> set[str]:
    names = asyncio.run(migrations.run(url, lambda connection: inspect(connection).get_table_names()))
    return set(names) - {"alembic_version"}


def differences(url: str) -> list[Any]:
    """Differences between the database and the models of the engine and the game. Tables of another application, which
    a test of this process may have loaded, are its own."""

    def is_ours(item: Any, name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or name in OURS or item.metadata is not migrations.metadata()

    def compare(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True, "include_object": is_ours}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, migrations.metadata()))

    return asyncio.run(migrations.run(url, compare))


# ---- the schema ----


def test_the_program_asks_for_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(migrations.config()).get_heads() == [SCHEMA_VERSION]


def test_up_from_empty_down_and_up_again(empty: str) -> None:
    assert migrations.current(empty) is None
    migrations.upgrade(empty)
    assert (migrations.current(empty), tables(empty)) == (SCHEMA_VERSION, OURS)
    migrations.upgrade(empty)
    migrations.downgrade(empty, "0001")
    assert (migrations.current(empty), tables(empty)) == ("0001", {"nodes", "actors", "log_chunks"})
    migrations.downgrade(empty)
    assert (migrations.current(empty), tables(empty)) == (None, set())
    migrations.upgrade(empty)
    assert (migrations.current(empty), tables(empty)) == (SCHEMA_VERSION, OURS)


@pytest.mark.parametrize("revision", ["0004", "base"])
async def test_going_back_is_refused_while_a_node_holds_a_lease(empty: str, revision: str) -> None:
    """F10: and a store whose schema was changed all the same says so."""
    await migrations.upgrade_async(empty)
    store = sql_store(empty)
    await store.open()
    try:
        me = NodeAddress(NodeId("node-1"), await store.register_node(NodeId("node-1"), 60.0))
        with pytest.raises(BadSetting, match=r"node-1#1 runs on .*: stop every node before going back"):
            await migrations.downgrade_async(empty, revision)
        assert await migrations.current_async(empty) == SCHEMA_VERSION
        await store.check()
        await store.retire_node(me)
        await migrations.downgrade_async(empty, revision)
        with pytest.raises(BadSetting, match="this program needs"):
            await store.check()
    finally:
        await store.close()


def test_the_migrations_make_what_the_models_say(empty: str) -> None:
    migrations.upgrade(empty)
    assert differences(empty) == []


def test_ownership_keeps_the_nodes_and_matches_that_are_there(empty: str) -> None:
    """0004 copies table `nodes` on SQLite, and changes it in place on PostgreSQL."""

    def run(statement: str) -> list[tuple[Any, ...]]:
        def work(connection: Connection) -> list[tuple[Any, ...]]:
            result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

        return asyncio.run(migrations.run(empty, work))

    nodes = [("a", 1, "dead", 1.5), ("a", 3, "up", None), ("b", 2, "left", 2.5)]
    add = "INSERT INTO nodes (node_id, incarnation, state, lease_until) VALUES "
    migrations.upgrade(empty, "0003")
    run(add + "('b', 2, 'left', 2.5), ('a', 3, 'up', NULL), ('a', 1, 'dead', 1.5)")
    run("INSERT INTO matches (match_id, head, next_seq) VALUES ('m', '', 4)")
    columns = "node_id, incarnation, state, lease_until"
    migrations.upgrade(empty, "0004")
    assert run(f"SELECT {columns}, journal FROM nodes ORDER BY 1, 2") == [(*row, "") for row in nodes]
    run("UPDATE nodes SET state = 'evicting', journal = 'here' WHERE incarnation = 3")
    run("INSERT INTO reminders VALUES ('player', 'p', 'ring', 5)")
    refused = [add + "('c', 4, 'odd', 1)", add + "('a', 3, 'up', 1)"]
    for statement in refused:
        with pytest.raises(Unavailable):
            run(statement)
    migrations.downgrade(empty, "0003")
    nodes[1] = ("a", 3, "dead", None)
    assert run(f"SELECT {columns} FROM nodes ORDER BY 1, 2") == nodes
    assert run("SELECT next_seq FROM matches") == [(4,)]
    for statement in (*refused, add + "('c', 4, 'evicting', 1)"):
        with pytest.raises(Unavailable):
            run(statement)
    migrations.upgrade(empty)
    assert run(f"SELECT {columns} FROM nodes ORDER BY 1, 2") == nodes
    assert differences(empty) == []


def test_reminders_that_are_there_are_kept(empty: str) -> None:
    """0005 adds what a reminder of before does not say; any statement of its owner is newer."""
    player = ActorId("player/p")
    ring = Reminder(player, "ring", 5)

    async def use() -> None:
        async with one_node(empty) as (store, me):
            epoch = (await store.claim("player", [Claim(player, 1)], me))[player].epoch
            assert await store.due_reminders(9, 9) == [ring, Reminder(player, "tell", 5)]
            await store.drop_reminder(ring)
            assert await store.set_reminder(moved := Reminder(player, "tell", 7, epoch, 1))
            assert await store.due_reminders(9, 9) == [moved]

    def execute(statement: str) -> None:
        asyncio.run(migrations.run(empty, lambda connection: connection.execute(text(statement)).close()))

    migrations.upgrade(empty, "0004")
    execute("INSERT INTO reminders VALUES ('player', 'p', 'ring', 5), ('player', 'p', 'tell', 5)")
    migrations.upgrade(empty)
    asyncio.run(use())
    execute("UPDATE nodes SET state = 'left'")
    migrations.downgrade(empty, "0004")
    execute("INSERT INTO reminders VALUES ('player', 'p', 'ring', 5)")
    migrations.upgrade(empty)
    assert differences(empty) == []


def test_going_back_gives_the_older_program_the_runs_that_it_cannot_do_without(empty: str) -> None:
    """F27: 0008 begins to count where the table is; on the way back entities of pruned owners name a row again, and
    one more than the highest row is no number that was given out."""

    def run(statement: str) -> list[tuple[Any, ...]]:
        def work(connection: Connection) -> list[tuple[Any, ...]]:
            result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

        return asyncio.run(migrations.run(empty, work))

    async def grow() -> None:
        async with one_node(empty) as (store, me):
            assert me.incarnation == 8
            await store.claim("wallet", [Claim(ONE, 1)], me)
            await store.register_node(NodeId("node-2"), None)
            over = "UPDATE nodes SET state = 'dead', lease_until = 1"
            await migrations.run(empty, lambda connection: connection.execute(text(over)).close())
            assert await store.prune_nodes(0.0, 10) == 3 and await store.nodes() == []

    migrations.upgrade(empty, "0007")
    run("INSERT INTO nodes (node_id, incarnation, state) VALUES ('old', 7, 'dead')")
    migrations.upgrade(empty)
    asyncio.run(grow())
    migrations.downgrade(empty, "0007")
    assert run("SELECT node_id, incarnation, state FROM nodes ORDER BY 2") == [
        ("node-a", 8, "dead"),
        ("pruned", 9, "dead"),
    ]
    migrations.upgrade(empty)
    assert run("SELECT value FROM counters WHERE name = 'incarnation'") == [(9,)] and differences(empty) == []


def test_two_processes_may_migrate_at_once(empty: str) -> None:
    program = "import sys, migrations; sys.stdin.readline(); migrations.upgrade(sys.argv[1]); print('done')"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, empty],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in running:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.strip()) == (0, b"done"), err.decode()
    assert migrations.current(empty) == SCHEMA_VERSION


async def test_migrations_can_be_run_from_a_loop(empty: str) -> None:
    migrations.upgrade(empty)
    assert await migrations.current_async(empty) == SCHEMA_VERSION


def test_a_migration_that_is_locked_out_says_so(tmp_path: Path) -> None:
    url = empty_url("sqlite", tmp_path)
    migrations.upgrade(url, "0001")
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked by another process"):
            migrations.upgrade(url, timeout_s=0.05)
    migrations.upgrade(url)
    assert migrations.current(url) == SCHEMA_VERSION


# ---- opening ----


async def test_an_old_schema_is_refused_with_the_command_to_run(empty: str) -> None:
    await migrations.upgrade_async(empty, "0002")
    with pytest.raises(BadSetting, match=r"has schema 0002 .* run `garrison migrate`") as caught:
        await sql_store(empty).open()
    assert caught.value.field == "store.url"


async def test_a_database_that_is_newer_than_the_program_says_what_to_run(empty: str) -> None:
    await migrations.upgrade_async(empty)
    newer = "UPDATE alembic_version SET version_num = '0099'"
    await migrations.run(empty, lambda connection: connection.execute(text(newer)).close())
    for attempt in (
        sql_store(empty).open,
        lambda: migrations.upgrade_async(empty),
        lambda: migrations.downgrade_async(empty, "0001"),
    ):
        with pytest.raises(BadSetting) as caught:
            await attempt()
        assert caught.value.field == "store.url"
        back = f"run the newer program, or its `garrison migrate --down {SCHEMA_VERSION} --yes`"
        assert "has schema 0099" in caught.value.message and caught.value.message.endswith(back)


async def test_a_revision_that_is_none_is_told_the_others(empty: str) -> None:
    await migrations.upgrade_async(empty)
    with pytest.raises(
        BadSetting,
        match=r"'0099'; there are 0022, 0021, 0020, 0019, 0018, 0017, 0016, 0015, 0014, 0013, (\d{4}, )+0001, base$",
    ) as caught:
        await migrations.downgrade_async(empty, "0099")
    assert caught.value.field == "revision"


async def test_reports_on_a_database_without_tables_say_what_to_run(empty: str) -> None:
    await migrations.upgrade_async(empty)
    await migrations.downgrade_async(empty)
    with pytest.raises(BadSetting, match=r"lacks tables: run `garrison migrate`$"):
        await ask_once(empty)


async def ask_once(url: str) -> list[dict[str, Any]]:
    queries = SqlStoreQueries(StoreSettings(url=url), QUERIES)
    try:
        return await queries.run("stored_matches", {})
    finally:
        await queries.close()


async def test_an_empty_database_is_refused_with_the_command_to_run(empty: str) -> None:
    with pytest.raises(BadSetting, match=r"run `garrison migrate`"):
        await sql_store(empty).open()


async def test_no_postgres_there(tmp_path: Path) -> None:
    store = sql_store(f"postgresql://postgres:secret@/none?host={tmp_path}")
    with pytest.raises(Unavailable) as caught:
        await store.open()
    assert "secret" not in caught.value.message
    with pytest.raises(Unavailable):
        await migrations.upgrade_async(f"postgresql://postgres@/none?host={tmp_path}", timeout_s=1.0)


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4000])
async def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.db"
    path.write_bytes(content)
    for attempt in (sql_store(f"sqlite:///{path}").open, lambda: migrations.upgrade_async(f"sqlite:///{path}")):
        with pytest.raises(Corrupt, match=r"broken\.db is not a readable SQLite database"):
            await attempt()


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    url = f"sqlite:///{tmp_path}/file/garrison.db"
    with pytest.raises(BadSetting, match="cannot make the folder"):
        await migrations.upgrade_async(url)


async def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/folder/garrison.db"
    (tmp_path / "folder" / "garrison.db").mkdir(parents=True)
    for attempt in (sql_store(url).open, lambda: migrations.upgrade_async(url)):
        with pytest.raises(BadSetting, match="must be writable"):
            await attempt()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://x/y",
        "nonsense",
        "postgresql://u:secret@a..b/x",
        "postgresql://u:secret@h:65536/x",
        f"postgresql://u:secret@{'a' * 64}/x",
    ],
)
async def test_an_address_that_is_no_store(url: str) -> None:
    with pytest.raises(BadSetting, match=r"store\.url") as caught:
        sql_store(url)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("host", [f"%2Ftmp%2F{'a' * 100}", "[::1]", "[fe80::1%25eth0]", "a.example,b.example"])
def test_hosts_that_are_no_plain_names(host: str) -> None:
    assert sql_store(f"postgresql://u@{host}/x")


# ---- losing the database, and getting it back ----


@asynccontextmanager
async def one_node(url: str, **settings: Any) -> AsyncIterator[tuple[Any, NodeAddress]]:
    store = sql_store(url, **settings)
    await store.open()
    try:
        node = NodeId("node-a")
        yield store, NodeAddress(node, await store.register_node(node, 600.0))
    finally:
        await store.close()


async def test_sqlite_locked_for_too_long(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    async with one_node(url, busy_timeout_s=0.1) as (store, me):
        held = (await store.claim("wallet", [Claim(ONE, 1)], me))[ONE]
        change = Change(ONE, held.epoch, 1, Wallet(5))
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked by another process") as caught:
                await store.write("wallet", [change])
            assert caught.value.retry_after_s
            with pytest.raises(Unavailable):
                await store.renew_lease(me, 600.0)
            assert await store.read("wallet", [ONE]) == {}, "readers are not in the way of a writer"
            other.execute("ROLLBACK")
        assert await store.write("wallet", [change]) == {ONE: "written"}


async def test_sqlite_held_by_a_stopped_process(tmp_path: Path) -> None:
    """A process that is stopped with the lock makes the others wait, bounded, and then go on."""
    url = sqlite_url(tmp_path)
    path = url.removeprefix("sqlite:///")
    program = (
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE')\nprint('locked', flush=True)\nsys.stdin.readline()"
    )
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        async with one_node(url, busy_timeout_s=0.1) as (store, me):
            assert await other.stdout.readline() == b"locked\n"
            os.kill(other.pid, signal.SIGSTOP)
            with pytest.raises(Unavailable):
                await store.claim("wallet", [Claim(ONE, 1)], me)
            other.kill()
            await other.wait()
            assert isinstance((await store.claim("wallet", [Claim(ONE, 2)], me))[ONE], Owned)
    finally:
        if other.returncode is None:
            other.kill()
            await other.wait()


@pytest.mark.parametrize("replaced", [False, True])
async def test_sqlite_in_a_file_that_nobody_finds_any_more(tmp_path: Path, replaced: bool) -> None:
    url, kept = sqlite_url(tmp_path), tmp_path / "kept.db"
    path = Path(url.removeprefix("sqlite:///"))
    with structlog.testing.capture_logs() as logs:
        async with one_node(url) as (store, me):
            held = (await store.claim("wallet", [Claim(ONE, 1)], me))[ONE]
            change = Change(ONE, held.epoch, 1, Wallet(5))
            os.rename(path, kept)
            if replaced:
                shutil.copy(kept, path)
            for attempt in (
                lambda: store.write("wallet", [change]),
                lambda: store.renew_lease(me, 600.0),
                lambda: store.claim("wallet", [Claim(ONE, 2)], me),
                lambda: store.register_node(NodeId("node-b"), 600.0),
                store.nodes,
            ):
                with pytest.raises(Unavailable, match="was replaced or removed") as caught:
                    await attempt()
                assert caught.value.retry_after_s
            os.rename(kept, path)
            assert await store.write("wallet", [change]) == {ONE: "written"}
            assert logs == []
            os.rename(path, kept)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("the database file was replaced or removed while it was open", "error")
    ]
    os.rename(kept, path)
    store = sql_store(url)
    await store.open()
    assert (await store.read("wallet", [ONE]))[ONE].state == Wallet(5)
    await store.close()


@pytest.mark.parametrize("path", ["n" * 300, "file/x.db"])
async def test_a_path_that_cannot_be_looked_at(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    url = f"sqlite:///{tmp_path}/{path}"
    for attempt in (sql_store(url).open, lambda: migrations.upgrade_async(url)):
        with pytest.raises(BadSetting, match=r"store\.url"):
            await attempt()
    assert await migrations.current_async(url) is None


async def test_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    async with one_node(url) as (a, me):
        b = sql_store(url)
        await b.open()
        claims = [Claim(ActorId(f"wallet/{n:03}"), n) for n in range(1, 101)]
        held = await a.claim("wallet", claims, me)
        changes = [
            [Change(id, owned.epoch, version, Wallet(version)) for id, owned in held.items()]
            for version in range(1, 21)
        ]
        await asyncio.gather(*((a if n % 2 else b).write("wallet", batch) for n, batch in enumerate(changes)))
        stored = await b.read("wallet", [claim.id for claim in claims])
        assert {found.state_version for found in stored.values()} == {20}
        await b.close()


async def test_postgres_stopped_and_started_again(tmp_path: Path) -> None:
    server = postgres_server()
    if not server.own:
        pytest.skip("the server that GARRISON_TEST_POSTGRES names is not ours to stop")
    database = fresh("postgres", tmp_path)
    async with one_node(database.url) as (store, me):
        tally = ActorId("tally/t")
        held = (await store.claim("wallet", [Claim(ONE, 1)], me))[ONE]
        epoch = (await store.claim("tally", [Claim(tally, 1)], me))[tally].epoch
        change, later = (Change(ONE, held.epoch, version, Wallet(version)) for version in (1, 2))
        assert await store.write("wallet", [change]) == {ONE: "written"}
        await asyncio.to_thread(server.stop)
        try:
            for attempt in (
                lambda: store.write("wallet", [later]),
                lambda: store.renew_lease(me, 600.0),
                lambda: store.read("wallet", [ONE]),
                lambda: store.claim("wallet", [Claim(ONE, 2)], me),
                lambda: store.append("tally", [Append(tally, epoch, 1, 1, b"", b"h", b"d", Tally(1))]),
            ):
                with pytest.raises(Unavailable) as caught:
                    await attempt()
                assert caught.value.retry_after_s
        finally:
            await asyncio.to_thread(server.start)

        async def written() -> bool:
            try:
                return bool(await store.write("wallet", [later]) == {ONE: "written"})
            except Unavailable:
                return False

        await until(written)
        assert await store.renew_lease(me, 600.0)
        assert (await store.read("wallet", [ONE]))[ONE].state == Wallet(2)


async def test_a_statement_that_waits_for_a_lock_ends_in_time(tmp_path: Path) -> None:
    import asyncpg

    database = fresh("postgres", tmp_path)
    async with one_node(database.url, statement_timeout_s=0.5) as (store, me):
        held = (await store.claim("wallet", [Claim(ONE, 1)], me))[ONE]
        other = await asyncpg.connect(database.url)
        try:
            async with other.transaction():
                await other.execute("SELECT 1 FROM actors FOR UPDATE")
                with pytest.raises(Unavailable):
                    await store.write("wallet", [Change(ONE, held.epoch, 1, Wallet(1))])
                with pytest.raises(Unavailable):
                    await store.claim("wallet", [Claim(ONE, 2)], me)
                assert await store.renew_lease(me, 600.0), "renewals do not wait behind it"
        finally:
            await other.close()
        assert await store.write("wallet", [Change(ONE, held.epoch, 1, Wallet(1))]) == {ONE: "written"}


async def test_a_cancelled_write_leaves_the_store_usable(tmp_path: Path) -> None:
    for name in SQL_DATABASES:
        async with one_node(fresh(name, tmp_path).url, pool_size=1) as (store, me):
            held = (await store.claim("wallet", [Claim(ONE, 1)], me))[ONE]
            for version in range(1, 6):
                task = asyncio.ensure_future(store.write("wallet", [Change(ONE, held.epoch, version, Wallet(version))]))
                for _ in range(version):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert await store.write("wallet", [Change(ONE, held.epoch, 9, Wallet(9))]) == {ONE: "written"}


async def test_rows_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    async with one_node(url) as (store, me):
        player = ActorId("player/p")
        held = (await store.claim("player", [Claim(player, 1)], me))[player]
        from game.player.state import PlayerState

        await store.write("player", [Change(player, held.epoch, 1, PlayerState())])
        await store.claim("wallet", [Claim(ONE, 1)], me)
        await store.write("wallet", [Change(ONE, Epoch(1), 1, Wallet(1))])
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as other:
            other.execute("UPDATE actors SET state = x'00ff'")
            other.execute("UPDATE players SET status = 'asleep'")
            other.commit()
        other_player = ActorId("player/q")
        bad = (await store.read("wallet", [ONE]))[ONE]
        assert isinstance(bad.state, Corrupt) and "table actors, row wallet/one" in bad.state.message
        claimed = await store.claim("player", [Claim(player, 2), Claim(other_player, 3)], me)
        assert isinstance(claimed[player], Corrupt) and "table players, row p" in str(claimed[player])
        assert isinstance(claimed[other_player], Owned), "one bad row is nothing to the others of its batch"


async def test_rows_that_are_nobodys_do_not_hide_the_others(empty: str) -> None:
    rows = (
        "INSERT INTO reminders (kind, key, name, due_ms) VALUES ('player', 'two words', 'ring', 1)",
        "INSERT INTO reminders (kind, key, name, due_ms) VALUES ('player', 'p', 'ring', 2)",
        "INSERT INTO matches (match_id, head, next_seq) VALUES ('live match', '', 5)",
        "INSERT INTO matches (match_id, head, next_seq) VALUES ('m', '', 5)",
    )

    def insert(connection: Connection) -> None:
        for row in rows:
            connection.execute(text(row)).close()

    await migrations.upgrade_async(empty)
    await migrations.run(empty, insert)
    async with one_node(empty) as (store, _):
        due = [Reminder(ActorId("player/two words"), "ring", 1), Reminder(ActorId("player/p"), "ring", 2)]
        assert await store.due_reminders(9, 9) == due
        assert await store.due_reminders(9, 9, due[0]) == due[1:]
        await store.drop_reminder(due[0])
        assert await store.due_reminders(9, 9) == due[1:]
        orphans = [ActorId("match/live match"), ActorId("match/m")]
        assert await store.orphans("match", 9) == orphans
        assert await store.orphans("match", 9, orphans[0]) == orphans[1:]


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    for name in SQL_DATABASES:
        store = sql_store(fresh(name, tmp_path).url)
        await store.open()
        await store.close()
        with pytest.raises(Unavailable):
            await store.renew_lease(NodeAddress(NodeId("a"), Incarnation(1)), 1.0)


def test_the_stores_leave_no_thread_behind(tmp_path: Path) -> None:
    import threading

    async def use() -> None:
        async with one_node(sqlite_url(tmp_path)) as (store, _):
            await store.nodes()

    before = threading.active_count()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, use()).result()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sqlite-") and thread.is_alive()]
    assert threading.active_count() <= before + 1
