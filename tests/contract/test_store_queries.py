"""The rules of every `StoreQueries`: the memory twin, SQLite, and a real PostgreSQL."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Integer, func, literal, select

from game.player.state import PlayerState
from persistence.engine.queries import StoreQuery
from persistence.game.tables import players
from persistence.sql_queries import SqlStoreQueries
from server.errors import BadInput, BadSetting, NotFound, Unavailable
from server.ids import NodeAddress, NodeId, actor_id
from server.settings import StoreSettings
from server.storage.ports import Change, Claim, Owned
from server.storage.queries import MemoryQuery, MemoryStoreQueries, StoreQueries
from tests.support.databases import DATABASES, SQL_DATABASES, STATE_TYPES, TestDatabase, fresh

MAX_ROWS = 3


class Best(msgspec.Struct, frozen=True):
    at_least: int = 0
    limit: int = 100


def best_in_sql(given: Best) -> Any:
    c = players.c
    wanted = select(c.player_id.label("player"), c.kills).where(c.state_version > 0, c.kills >= given.at_least)
    return wanted.order_by(c.kills.desc(), c.player_id)


def best_in_memory(states: Any, given: Best) -> Any:
    found = [(key, state.kills) for key, state in states("player") if state.kills >= given.at_least]
    return ({"player": key, "kills": kills} for key, kills in sorted(found, key=lambda row: (-row[1], row[0])))


def sql_queries(url: str, queries: dict[str, StoreQuery], **settings: Any) -> SqlStoreQueries:
    return SqlStoreQueries(StoreSettings(url=url, **{"statement_timeout_s": 30.0, **settings}), queries)


@contextlib.asynccontextmanager
async def closing(queries: SqlStoreQueries) -> AsyncIterator[SqlStoreQueries]:
    try:
        yield queries
    finally:
        await queries.close()


def queries_of(database: TestDatabase) -> StoreQueries:
    if not database.url:
        best = MemoryQuery(Best, best_in_memory, MAX_ROWS)
        return MemoryStoreQueries(database.memory, STATE_TYPES, {"best": best})
    return sql_queries(database.url, {"best": StoreQuery(Best, best_in_sql, MAX_ROWS)})


async def store_players(database: TestDatabase, **kills: int) -> None:
    async with database.connect() as (store, _):
        node = NodeId("node-a")
        me = NodeAddress(node, await store.register_node(node, 30.0))
        for token, (name, count) in enumerate(sorted(kills.items()), 1):
            identity = actor_id("player", name)
            (claimed,) = (await store.claim("player", [Claim(identity, token)], me)).values()
            assert isinstance(claimed, Owned)
            await store.write("player", [Change(identity, claimed.epoch, 1, PlayerState(kills=count))])
        (_,) = (await store.claim("player", [Claim(actor_id("player", "zed"), 99)], me)).values()  # never stored


@pytest.fixture(params=DATABASES)
async def queries(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreQueries]:
    database = fresh(request.param, tmp_path)
    await store_players(database, ann=5, bob=9, cat=5, dan=1)
    made = queries_of(database)
    yield made
    await made.close()


async def test_query_gives_its_rows_in_its_order(queries: StoreQueries) -> None:
    assert await queries.run("best", {"at_least": 5}) == [
        {"player": "bob", "kills": 9},
        {"player": "ann", "kills": 5},
        {"player": "cat", "kills": 5},
    ]


async def test_parameters_may_come_as_text(queries: StoreQueries) -> None:
    assert await queries.run("best", {"at_least": "9"}) == [{"player": "bob", "kills": 9}]


async def test_rows_are_bounded_by_the_limit_that_is_asked_for_and_by_the_querys_own(queries: StoreQueries) -> None:
    assert [row["player"] for row in await queries.run("best", {"limit": 1})] == ["bob"]
    assert len(await queries.run("best", {"limit": 4})) == MAX_ROWS
    assert await queries.run("best", {"limit": -1}) == []


async def test_unknown_query_is_not_found(queries: StoreQueries) -> None:
    with pytest.raises(NotFound, match="'worst'"):
        await queries.run("worst", {})


@pytest.mark.parametrize("params", [{"at_least": "many"}, {"atleast": 1}, {"at_least": None}])
async def test_parameters_that_are_not_the_querys_are_bad_input(queries: StoreQueries, params: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="query best"):
        await queries.run("best", params)


async def test_many_queries_at_once_all_answer(queries: StoreQueries) -> None:
    answers = await asyncio.gather(*(queries.run("best", {"limit": 1}) for _ in range(20)))
    assert answers == [[{"player": "bob", "kills": 9}]] * 20


# ---- the databases ----


class Nothing(msgspec.Struct, frozen=True):
    pass


def endless(_: Nothing) -> Any:
    """Counts for ever."""
    numbers = select(literal(1, Integer).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1))
    return select(func.max(numbers.c.n).label("n"))


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_query_that_takes_too_long_ends_in_the_database_and_the_next_one_answers(
    name: str, tmp_path: Path
) -> None:
    database = fresh(name, tmp_path)
    await store_players(database, ann=5)
    statements = {"endless": StoreQuery(Nothing, endless), "best": StoreQuery(Best, best_in_sql)}
    async with closing(sql_queries(database.url, statements, statement_timeout_s=0.5)) as slow:
        with pytest.raises(Unavailable, match="takes longer than"):
            await slow.run("endless", {})
    patient = sql_queries(database.url, statements, statement_timeout_s=2.0)
    async with closing(patient):
        with pytest.raises(Unavailable):
            await patient.run("endless", {})
        assert len(await patient.run("best", {})) == 1


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_query_that_would_write_is_refused(name: str, tmp_path: Path) -> None:
    """Nothing that a statement calls can change the store: its connections are read only."""
    database = fresh(name, tmp_path)
    await store_players(database, ann=5)

    def writing(_: Nothing) -> Any:
        return players.update().values(kills=0).returning(players.c.kills)

    class Update(msgspec.Struct):
        """Looks like a SELECT to the runner."""

        def limit(self, _: int) -> Any:
            return writing(Nothing())

    queries = sql_queries(
        database.url,
        {"writing": StoreQuery(Nothing, lambda _: Update()), "best": StoreQuery(Best, best_in_sql)},  # type: ignore[arg-type,return-value]
    )
    async with closing(queries):
        with pytest.raises((Unavailable, BadSetting), match="read"):
            await queries.run("writing", {})
        assert await queries.run("best", {}) == [{"player": "ann", "kills": 5}]


async def test_missing_file_is_a_bad_setting(tmp_path: Path) -> None:
    async with closing(
        sql_queries(f"sqlite:///{tmp_path}/none.db", {"best": StoreQuery(Best, best_in_sql)})
    ) as queries:
        with pytest.raises(BadSetting, match="run `garrison migrate`"):
            await queries.run("best", {})
    assert not os.listdir(tmp_path)


async def test_absent_server_is_unavailable(tmp_path: Path) -> None:
    url = f"postgresql://postgres@/none?host={tmp_path}"
    async with closing(sql_queries(url, {"best": StoreQuery(Best, best_in_sql)})) as queries:
        with pytest.raises(Unavailable):
            await queries.run("best", {})
