"""Last seen of many players in one query, for watchers of those who are offline."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from game.player.state import PlayerState
from persistence.game.queries import QUERIES, Keys, last_seen
from persistence.sql_queries import SqlStoreQueries
from server.ids import NodeAddress, NodeId, actor_id
from server.settings import StoreSettings
from server.storage.ports import Change, Claim, Owned
from tests.support.databases import SQL_DATABASES, fresh


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_players_who_were_ever_here_have_a_row_each(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    assert database.url
    async with database.connect() as (store, _):
        node = NodeId("node-a")
        me = NodeAddress(node, await store.register_node(node, 30.0))
        states = {"ann": PlayerState(status="busy", last_seen_ms=5), "bob": PlayerState(last_seen_ms=7), "never": None}
        for token, (key, state) in enumerate(states.items(), 1):
            identity = actor_id("player", key)
            (claimed,) = (await store.claim("player", [Claim(identity, token)], me)).values()
            assert isinstance(claimed, Owned)
            if state is not None:
                await store.write("player", [Change(identity, claimed.epoch, 1, state)])
    queries = SqlStoreQueries(StoreSettings(url=database.url, statement_timeout_s=30.0), QUERIES)
    try:
        rows = await queries.run("last_seen", {"keys": ["ann", "bob", "never", *(f"nobody-{n}" for n in range(497))]})
        assert sorted(rows, key=lambda row: str(row["key"])) == [
            {"key": "ann", "status": "busy", "last_seen_ms": 5},
            {"key": "bob", "status": "offline", "last_seen_ms": 7},
        ]
        assert await queries.run("last_seen", {"keys": []}) == []
        for count in (1, 2, 4, 5, 999, 1_001):  # statements are made for some numbers of keys
            keys = ["bob", *(f"nobody-{n}" for n in range(count - 1))]
            rows = await queries.run("last_seen", {"keys": keys})
            assert rows == [{"key": "bob", "status": "offline", "last_seen_ms": 7}], count
    finally:
        await queries.close()


def test_last_seen_is_read_by_the_tables_key(tmp_path: Path) -> None:
    database = fresh("sqlite", tmp_path)
    engine = create_engine(f"sqlite:///{database.url.removeprefix('sqlite:///')}")
    statement = last_seen(Keys(["ann", "bob"])).compile(engine, compile_kwargs={"literal_binds": True})
    with engine.connect() as connection:
        plan = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"))]
    engine.dispose()
    assert len(plan) == 1 and plan[0].startswith("SEARCH players USING INDEX"), plan
