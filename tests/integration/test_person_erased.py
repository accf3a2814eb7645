"""`garrison person erase` beside a node that runs, on SQLite: the name is planted in every place, and is in none."""

import asyncio
import base64
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from game.people.codes import ERASED
from persistence.game.people import PLACES, TABLES
from persistence.people import People
from server.actors.actor import Caller
from server.cli.app import run
from server.drivers import build_node
from server.errors import Rejected
from server.ids import actor_id
from server.node import Node
from server.settings import Settings
from tests.support.persons import ANN, plant, settings_of
from tests.support.waiting import until

KEY = base64.b64encode(bytes(32)).decode()
TOKEN = "an admin token of some length"
SAID = {name for name, place in PLACES.items() if place.erased != "nothing"}


def node_settings(path: Path) -> Settings:
    return settings_of(
        path,
        node="node-b",
        actors={"collect_interval_s": 0.1},
        gateway={"port": 0},
        admin={"port": 0, "token": TOKEN},
        security={"signing_key": "a signing key of thirty-two bytes and more", "cluster_key": KEY},
        log={"level": "error"},
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Node]:
    node = build_node(settings)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


async def garrison(path: Path, *words: str) -> int:
    return await asyncio.to_thread(run, [*words, "--set", f"store.url=sqlite:///{path}"])


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """The document that a command has printed, after lines of the node's log."""
    return json.loads(capsys.readouterr().out.splitlines()[-1])


async def naming(path: Path) -> dict[str, int]:
    people = People(settings_of(path).store)
    found = {name: len([row async for row in people.rows(table, ANN)]) for name, table in TABLES.items()}
    await people.close()
    return {name: count for name, count in found.items() if count}


def in_any_column(path: Path) -> set[str]:
    """Tables with the bytes of the name in any column, found by bytes alone; `joann` and `ann2` are others."""
    found = set()
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in connection.execute(f"SELECT * FROM {table}"):
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    data = data.replace(b"joann", b"").replace(b"ann2", b"").replace(b"Ann the", b"")
                    if b"ann" in data.lower():
                        found.add(table)
    return found


async def login(node: Node) -> Any:
    return await node.system.ask(actor_id("player", ANN), "connected", (Caller("player", ANN, "s1"),))


async def test_erased_player_is_in_no_table_and_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "garrison.db"
    await plant(settings_of(path))
    planted = await naming(path)
    assert set(planted) == SAID - {"log_chunks"}, "the name is planted in every place of the list"
    assert in_any_column(path) == SAID - {"log_chunks"}, "logs are compressed"
    assert await garrison(path, "person", "erase", ANN, "--json") == 0
    counted = said(capsys)
    assert counted["rows"] == planted and counted["logs"] == {"cup": 11}
    assert await naming(path) == planted, "without --yes nothing is changed"
    async with running(node_settings(path)) as node:
        where = ("--url", node.admin_url, "--token", TOKEN, "--wait", "60s")
        await until(lambda: not node.not_ready())
        code = await garrison(path, "person", "erase", ANN, "--yes", "--json", *where)
        told = said(capsys)
        assert told["done"], str(told["waits"])
        assert told["waits"] == [] and told["logs"] == 1
        assert told["stays"] == ["1 rows of actors name it, which is not the game's"]
        assert code == 1, "something stays that is not ours to erase"
        with pytest.raises(Rejected) as refused:
            await login(node)
        assert refused.value.code == ERASED, "a ban for good was in force, and is kept"
        assert await garrison(path, "person", "erase", ANN, "--yes", "--forgive", "--json", *where) == 1
        assert said(capsys)["done"]
        await login(node)
    assert await naming(path) == {"actors": 1, "players": 1}, "a new person of that name"
    with closing(sqlite3.connect(path)) as connection:
        (epoch,) = connection.execute("SELECT epoch FROM players WHERE player_id = ?", (ANN,)).fetchone()
        assert epoch > 1, "epochs go on above those of the one before"
        connection.execute("DELETE FROM players WHERE player_id = ?", (ANN,))
        connection.commit()
        acts = connection.execute("SELECT act, subject, principal FROM moderation_acts ORDER BY at_ms").fetchall()
    assert in_any_column(path) == {"actors"}
    assert [act for act, _, _ in acts] == ["ban", "mute", "erase", "erase"]
    assert all(subject.startswith("erased-") or subject == "dan" for _, subject, _ in acts)
    assert await garrison(path, "verify", "--all", "--processes", "1", "--json") == 0
    verified = said(capsys)
    assert (verified["redacted"], verified["bad"]) == (1, [])
