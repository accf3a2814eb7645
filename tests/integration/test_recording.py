"""A node with columns: what happens on it is in its tables, and stays there for the run after it."""

import asyncio
import base64
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import garrison
from garrison.messages import Kill, MatchJoin, Medal
from garrison.messages import MatchOptions as Options
from server.columns.reader import StoredRowBlock, paths
from server.drivers import build_node, gossip_endpoint, upgrade_store
from server.errors import BadInput, DeadlineExceeded, Unavailable
from server.node import Node
from server.runtime.clock import SystemClock
from server.sessions.tokens import issue
from server.settings import Settings, from_tree
from tests.support.fair_share import fair_share
from tests.support.sdk import PATIENT
from tests.support.waiting import until

KEY = "a key that signs the tokens of this test's clients"


@pytest.fixture(autouse=True)
async def processes_beside_a_node_have_a_fair_share() -> AsyncIterator[None]:
    async with fair_share():
        yield


def settings_of(tmp_path: Path, **more: Any) -> Settings:
    tree = {
        "store": {"url": f"sqlite:///{tmp_path}/g.db", "flush_interval_s": 0.05},
        "gateway": {"port": 0},
        "admin": {"enabled": False},
        "columns": {"enabled": True, "directory": str(tmp_path / "columns"), "tick_s": 0.01, "max_bytes": 2**20},
        "security": {"signing_key": KEY},
        "log": {"level": "error"},
        **more,
    }
    return from_tree(tree)


@pytest.fixture
async def settings(tmp_path: Path) -> Settings:
    settings = settings_of(tmp_path)
    await upgrade_store(settings)
    return settings


def token(subject: str, role: str) -> str:
    return issue(KEY.encode(), subject, role, 60, SystemClock.wall_ms())


def rows(settings: Settings, table: str) -> list[dict[str, Any]]:
    """The rows of a table, the earliest first."""
    found: list[dict[str, Any]] = []
    for path in paths(Path(settings.columns.directory) / settings.cluster / settings.node):
        block = StoredRowBlock(path)
        if block.header.schema.table != table:
            continue
        block.verify()
        texts = block.all_texts()
        columns = {
            column.name: [
                texts[value] if column.type == "text" else value + block.header.base_ms * (column.type == "time")
                for value in block.values(column.name).tolist()
            ]
            for column in block.header.schema.columns
        }
        found += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return sorted(found, key=lambda row: int(row["time"]))


async def play(url: str) -> None:
    options = Options(mode="slayer", map_name="Guardian", countdown_ms=0)
    async with (
        garrison.connect([url], token("h", "host"), options=PATIENT) as client,
        garrison.connect([url], token("ann", "player"), options=PATIENT) as ann,
        garrison.connect([url], token("bob", "player"), options=PATIENT) as bob,
        garrison.Host(client, "m1", options=options) as host,
    ):
        await host.create()
        await ann.request(MatchJoin("m1"))
        await bob.request(MatchJoin("m1"))
        await host.start()
        await host.report(Kill(1_000, "ann", "bob"), Medal(2_000, "ann", "Double Kill"))
        with pytest.raises(garrison.GarrisonError):
            await ann.request(MatchJoin("nowhere"))


async def test_rows_of_a_node_outlive_it(settings: Settings) -> None:
    node = build_node(settings)
    await node.start()
    try:
        await play(node.client_url)
        await until(lambda: len(rows(settings, "sessions")) >= 4)
        await until(lambda: len(rows(settings, "health")) >= 1)
        await until(lambda: len(rows(settings, "events")) >= 5)
    finally:
        await node.stop()
    events = rows(settings, "events")
    assert [(row["event"], row["player"], row["other"], row["detail"]) for row in events][-2:] == [
        ("kill", "ann", "bob", ""),
        ("medal", "ann", "", "Double Kill"),
    ]
    assert {(row["match"], row["map_name"], row["mode"]) for row in events} == {("m1", "Guardian", "slayer")}
    opened = [(row["event"], row["player"], row["role"]) for row in rows(settings, "sessions")]
    assert {("opened", "ann", "player"), ("opened", "h", "host"), ("closed", "bob", "player")} <= set(opened)
    calls = rows(settings, "calls")
    assert {("match.join", ""), ("match.report", "")} < {(row["method"], row["error"]) for row in calls}
    assert [row["error"] for row in calls if row["method"] == "match.join" and row["error"]] != []
    assert all(row["latency_us"] > 0 and row["weight"] == 1 for row in calls)
    assert next(row["status"] for row in rows(settings, "presence") if row["player"] == "ann") == "online"

    again = build_node(settings)
    await again.start()
    try:
        assert again.recording is not None
        found = again.recording.store.found
        assert found.dropped == {} and found.rows >= len(events) + len(calls)
        await until(lambda: len(rows(settings, "health")) >= 2)
        assert rows(settings, "events") == events
    finally:
        await again.stop()


async def answered(ask: Callable[[str], Awaitable[Any]], sql: str, event: str) -> Any:
    """The first answer of two nodes that has `event` in it: rows come within two ticks, the process within seconds."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable, DeadlineExceeded):
                answer = await ask(sql)
                if answer["coverage"]["answered"] == 2 and dict(answer["rows"]).get(event):
                    return answer
            await asyncio.sleep(0.05)


async def test_questions_are_answered_by_every_node(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    nodes: list[Node] = []
    seeds: list[str] = []
    key = base64.b64encode(bytes(range(32))).decode()
    for name in ("alpha", "beta"):
        settings = settings_of(
            tmp_path, node=name, gossip={"seeds": seeds}, security={"signing_key": KEY, "cluster_key": key}
        )
        if not nodes:
            await upgrade_store(settings)
        node = build_node(settings)
        await node.start()
        nodes.append(node)
        seeds = [gossip_endpoint(node)]
    try:
        await until(lambda: all(len(node.system.view.members) == 2 for node in nodes))
        await play(nodes[0].client_url)
        desk = nodes[1].recording.desk() if nodes[1].recording is not None else None
        assert desk is not None

        async def ask(sql: str) -> Any:
            return msgspec.json.decode(await desk.ask(sql, 0, 0, 5.0))

        counted = "SELECT event, count(*) FROM events WHERE map_name = 'Guardian' GROUP BY event ORDER BY event"
        answer = await answered(ask, counted, "medal")
        assert dict(answer["rows"])["kill"] == 1 and answer["coverage"]["nodes"] == answer["coverage"]["answered"] == 2
        with pytest.raises(BadInput, match="line 1, column 10: no column 'foo'"):
            await ask("SELECT foo FROM events")
        process = nodes[0].recording.process if nodes[0].recording is not None else None
        assert process is not None and process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await until(lambda: process.restarts == 1, 60.0)
        lacking = await ask(counted)
        assert lacking["coverage"]["missing"] == ["alpha"] and lacking["coverage"]["answered"] == 1
        await until(lambda: process.pid is not None, 60.0)
        again = await answered(ask, counted, "kill")
        assert dict(answer["rows"]).items() <= dict(again["rows"]).items()  # its host is gone: the match ends meanwhile
        assert await desk.forget("ann") == []
        of_ann = await ask("SELECT count(*) FROM events WHERE player = 'ann' OR other = 'ann'")
        assert of_ann["rows"] == [[0]] and of_ann["coverage"]["answered"] == 2
    finally:
        for node in reversed(nodes):
            await node.stop()
