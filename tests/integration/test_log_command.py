"""`garrison log`: the stored log of an application's own logged actor is shown and verified, without a node."""

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from server.cli.app import run
from server.drivers import build_node, upgrade_store
from server.ids import actor_id
from server.settings import Settings, from_tree

BOOK = actor_id("ledger", "book")
KEY = "a key of the tiny application's own, long enough"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which a node of the tiny application has left a ledger: two segments, and an open end."""
    path = tmp_path_factory.mktemp("log") / "tiny.db"
    asyncio.run(upgrade_store(_settings(path)))
    asyncio.run(_write(path))
    return path


def _settings(path: Path) -> Settings:
    return from_tree(
        {
            "app": "tests.support.tiny:TinyApp",
            "store": {"url": f"sqlite:///{path}", "segment_entries": 4, "group_commit_s": 0.001},
            "gateway": {"port": 0},
            "admin": {"port": 0, "token": "operator"},
            "security": {"signing_key": KEY},
            "log": {"level": "warning"},
        }
    )


async def _write(path: Path) -> None:
    async with asyncio.timeout(30):
        node = build_node(_settings(path))
        await node.start()
        for n in range(1, 11):
            await node.system.ask(BOOK, "add", (n,))
        await node.stop()


def garrison(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str, str]:
    monkeypatch.chdir(database.parent)
    app = ("--set", "app=tests.support.tiny:TinyApp", "--set", f"store.url=sqlite:///{database}")
    code = run(("log", *words, *app))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_every_event_is_shown_in_order(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said, _ = garrison(database, capsys, monkeypatch, "ledger/book")
    records = [json.loads(line) for line in said.splitlines()]
    assert code == 0
    assert [(seq, event[0], event[2]) for seq, event, _lineage, _command in records] == [
        (n, "added", n) for n in range(1, 11)
    ]


def test_a_log_verifies_and_its_state_is_recomputed(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said, _ = garrison(database, capsys, monkeypatch, "ledger/book", "--verify")
    assert code == 0 and said.startswith("log ledger/book verifies: 10 events; sealed segments: ")
    _, document, _ = garrison(database, capsys, monkeypatch, "ledger/book", "--verify", "--json")
    told = json.loads(document)
    assert (told["log"], told["verified"], told["events"], told["end_hash"]) == ("ledger/book", True, 10, False)
    assert told["segments"] >= 2
    _, document, _ = garrison(database, capsys, monkeypatch, "ledger/book", "--json")
    assert json.loads(document) == {"log": "ledger/book", "events": 10, "state": {"total": 55}}


def test_a_damaged_log_is_named(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(sqlite3.connect(database)) as opened, opened:
        ((first_seq, data),) = opened.execute(
            "SELECT first_seq, data FROM log_chunks WHERE sealed ORDER BY first_seq LIMIT 1"
        ).fetchall()
        broken = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
        opened.execute("UPDATE log_chunks SET data = ? WHERE first_seq = ?", (broken, first_seq))
    try:
        code, _, failed = garrison(database, capsys, monkeypatch, "ledger/book", "--verify")
        assert code == 2 and "log ledger/book does not verify: segment at event 1: events 1 to " in failed
    finally:
        with contextlib.closing(sqlite3.connect(database)) as opened, opened:
            opened.execute("UPDATE log_chunks SET data = ? WHERE first_seq = ?", (data, first_seq))


@pytest.mark.parametrize(
    ("actor", "why"),
    [
        ("ledger/none", "the store has no log of ledger/none"),
        ("counter/a", "has no logged actor 'counter'"),
        ("nothing/a", "has no logged actor 'nothing'"),
        ("ledger", "not an actor id"),
    ],
)
def test_actors_without_a_log_are_refused(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, actor: str, why: str
) -> None:
    code, said, failed = garrison(database, capsys, monkeypatch, actor)
    assert (code, said, len(failed.splitlines())) == (2, "", 1)
    assert why in failed
