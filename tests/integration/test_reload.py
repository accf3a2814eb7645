"""Rows of events that were lost with a node's memory come back from the store; each is reported once."""

import asyncio
import base64
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import garrison
from garrison.messages import MatchJoin, Medal
from garrison.messages import MatchOptions as Options
from persistence.engine.urls import parse
from server.columns.missing import is_whole, missing_rows
from server.columns.reader import StoredRowBlock, paths
from server.drivers import build_node, gossip_endpoint
from server.errors import DeadlineExceeded, Unavailable
from server.node import Node
from server.runtime.clock import SystemClock
from server.sessions.tokens import issue
from server.settings import Settings, from_tree
from tests.support.databases import TestDatabase, fresh
from tests.support.fair_share import fair_share
from tests.support.sdk import PATIENT
from tests.support.waiting import until

pytest.importorskip("duckdb")
KEY = "a key that signs the tokens of this test's clients"
CLUSTER_KEY = base64.b64encode(bytes(range(32))).decode()
COUNTED = "SELECT match, event, player, detail, count(*) FROM events GROUP BY match, event, player, detail"
MATCHES = 12


@pytest.fixture(autouse=True)
async def processes_beside_a_node_have_a_fair_share() -> AsyncIterator[None]:
    async with fair_share():
        yield


def settings_of(database: TestDatabase, tmp_path: Path, name: str, seeds: list[str]) -> Settings:
    tree: dict[str, Any] = {
        "node": name,
        "store": {"url": database.url, "flush_interval_s": 0.05},
        "gateway": {"port": 0},
        "gossip": {"seeds": seeds},
        "admin": {"enabled": False},
        "columns": {"enabled": True, "directory": str(tmp_path / "columns"), "tick_s": 0.01, "max_bytes": 2**20},
        "security": {"signing_key": KEY, "cluster_key": CLUSTER_KEY},
        "log": {"level": "error"},
    }
    return from_tree(tree)


def directory(tmp_path: Path, node: str) -> Path:
    return tmp_path / "columns" / "garrison" / node


@contextlib.asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Node]:
    node = build_node(settings)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


def token(subject: str, role: str) -> str:
    return issue(KEY.encode(), subject, role, 60, SystemClock.wall_ms())


async def play(url: str, names: list[str]) -> None:
    async with (
        garrison.connect([url], token("h", "host"), options=PATIENT) as client,
        garrison.connect([url], token("ann", "player"), options=PATIENT) as ann,
    ):
        for name in names:
            options = Options(mode="slayer", map_name="Guardian", countdown_ms=0)
            async with garrison.Host(client, name, options=options) as host:
                await host.create()
                await ann.request(MatchJoin(name))
                await host.start()
                await host.report(Medal(1_000, "ann", "First Strike"), Medal(2_000, "ann", "Double Kill"))
                await host.end(3_000)


async def ask(node: Node, sql: str = COUNTED) -> dict[str, Any]:
    """An answer, once the query process is there."""
    assert node.recording is not None
    desk = node.recording.desk()
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable, DeadlineExceeded):
                answer: dict[str, Any] = msgspec.json.decode(await desk.ask(sql, 0, 0, 5.0))
                if not answer["coverage"]["missing"]:
                    return answer
            await asyncio.sleep(0.02)


async def whole_answer(node: Node, rows: int) -> list[Any]:
    """The answer once nothing is missing and there are as many rows."""
    async with asyncio.timeout(60):
        while True:
            answer = await ask(node)
            if not answer["coverage"]["reloading"] and sum(row[-1] for row in answer["rows"]) >= rows:
                return sorted(answer["rows"])
            await asyncio.sleep(0.02)


async def settled(node: Node, matches: int) -> list[Any]:
    """The answer once so many matches have their last event, which comes when careers have them."""
    async with asyncio.timeout(60):
        while True:
            found = await whole_answer(node, matches)
            if sum(row[1] == "rated" for row in found) == matches:
                return found


async def execute(database: TestDatabase, *statements: str) -> list[Any]:
    engine = create_async_engine(parse(database.url).url)
    try:
        async with engine.begin() as connection:
            found = [await connection.execute(text(statement)) for statement in statements]
            return [tuple(row) for row in found[-1]] if found[-1].returns_rows else []
    finally:
        await engine.dispose()


def damage_a_block(columns: Path) -> int:
    """Change a byte of a row of events. Returns the rows of its block."""
    path = next(path for path in paths(columns) if path.name.startswith("events."))
    block = StoredRowBlock(path)
    data = bytearray(path.read_bytes())
    data[block.shape.columns[-1]] ^= 1
    path.write_bytes(data)
    return block.rows


async def test_lost_events_come_back_once_beside_a_node_that_kept_its_own(tmp_path: Path) -> None:
    database = fresh("postgres", tmp_path)
    alpha = settings_of(database, tmp_path, "alpha", [])
    names = [f"m{number}" for number in range(MATCHES)]
    async with started(alpha) as first:
        seeds = [gossip_endpoint(first)]
        async with started(settings_of(database, tmp_path, "beta", seeds)) as second:
            await until(lambda: all(len(node.system.view.members) == 2 for node in (first, second)))
            await play(first.client_url, names)
            before = await settled(second, MATCHES)
            (events,) = (await execute(database, "SELECT sum(next_seq - 1) FROM matches"))[0]
            assert sum(row[-1] for row in before) == events
        noted = dict(await execute(database, "SELECT node_id, count(*) FROM log_recorders GROUP BY node_id"))
        assert set(noted) == {"alpha", "beta"} and sum(noted.values()) >= MATCHES
    shutil.rmtree(directory(tmp_path, "alpha"))

    # The memory of beta comes back after alpha has loaded: what it has alpha has never loaded.
    async with started(alpha) as first:
        own = await whole_answer(first, 1)
        assert 0 < sum(row[-1] for row in own) == first.metrics.column_rows_reloaded_total < events
        assert is_whole(directory(tmp_path, "alpha"), "events")
        async with started(settings_of(database, tmp_path, "beta", [gossip_endpoint(first)])) as second:
            await until(lambda: all(len(node.system.view.members) == 2 for node in (first, second)))
            assert await whole_answer(second, int(events)) == before
            assert second.metrics.column_rows_reloaded_total == 0


async def test_answers_say_what_is_missing_while_the_store_is_away(tmp_path: Path) -> None:
    database = fresh("sqlite", tmp_path)
    alpha = settings_of(database, tmp_path, "alpha", [])
    async with started(alpha) as node:
        await play(node.client_url, ["m1", "m2", "m3"])
        before = await settled(node, 3)
    columns = directory(tmp_path, "alpha")
    shutil.rmtree(columns)
    # The reload finds no notes of recorders: to it the store is away. And one log is damaged.
    await execute(
        database,
        "ALTER TABLE log_recorders RENAME TO away",
        "UPDATE log_chunks SET data = CAST('GSegnonsense' AS BLOB) WHERE kind = 'match' AND key = 'm2'",
    )
    node = build_node(alpha)
    assert node.recording is not None and node.recording.reload is not None
    node.recording.reload._pauses_s = (0.1,)
    await node.start()
    try:
        answer = await ask(node)
        assert answer["coverage"]["reloading"] == 1 and answer["rows"] == []
        await until(lambda: bool(node.recording.store.not_reloaded), 60.0)
        assert "events are not reloaded" in node.recording.store.off()
        await execute(database, "ALTER TABLE away RENAME TO log_recorders")
        found = await whole_answer(node, 1)
        assert found == [row for row in before if row[0] != "m2"]
        assert node.metrics.column_rows_damaged_total == sum(row[-1] for row in before if row[0] == "m2")
        await until(lambda: not node.recording.store.not_reloaded, 60.0)
        assert missing_rows(columns, "events") is None and node.recording.store.off() == ""
    finally:
        await node.stop()

    # A damaged block is dropped, and its rows come back. What is let go of by name stays away.
    damaged = await asyncio.to_thread(damage_a_block, columns)
    async with started(alpha) as node:
        assert await whole_answer(node, len(found)) == found
        assert node.metrics.column_rows_reloaded_total == damaged
        assert node.recording is not None and await node.recording.forget("ann") == []
        answer = await ask(node, "SELECT count(*) FROM events WHERE player = 'ann'")
        assert answer["rows"] == [[0]] and answer["coverage"]["reloading"] == 0
