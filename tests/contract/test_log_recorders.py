"""Nodes that record events of logs as columns: of every event the store names one at most."""

import random
from pathlib import Path
from typing import Any

import pytest

from persistence.engine.recorders import RECORDED
from persistence.sql_queries import SqlStoreQueries
from server.eventlog.ports import Append, OverLog, Recorder, Seal
from server.ids import Epoch, Incarnation, NodeAddress, NodeId, actor_id
from server.settings import StoreSettings
from server.storage.ports import Claim, Owned
from tests.contract.test_deleted_logs import match
from tests.support.databases import SQL_DATABASES, TestDatabase, fresh

A, B = NodeId("node-a"), NodeId("node-b")


@pytest.fixture(params=SQL_DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


async def spans(queries: SqlStoreQueries, node: str, before: int = 10**6, **more: Any) -> list[tuple[str, int, int]]:
    """Everything that runs of `node` before `before` have recorded, asked for in pages of two."""
    given = {"kind": "match", "node": node, "incarnation": before, "since_ms": 0, "limit": 2, **more}
    found: list[tuple[str, int, int]] = []
    after = {"before_ms": 2**62, "before_key": ""}
    while page := await queries.run("recorded", given | after):
        found += [(row["key"], row["first_seq"], row["last_seq"]) for row in page]
        after = {"before_ms": page[-1]["began_ms"], "before_key": page[-1]["key"]}
    return found


async def test_every_event_has_one_recorder_at_most(database: TestDatabase) -> None:
    rng = random.Random(12)
    queries = SqlStoreQueries(StoreSettings(url=database.url), {"recorded": RECORDED})
    async with database.connect() as (store, logs):
        runs = {name: NodeAddress(name, await store.register_node(name, 30.0)) for name in (A, B)}
        next_seq = dict.fromkeys(("m1", "m2", "m3"), 1)
        heads = dict.fromkeys(next_seq, b"")
        wanted: dict[str, set[tuple[str, int]]] = {A: set(), B: set()}
        noted: dict[str, str | None] = dict.fromkeys(next_seq)
        began = 0
        for turn in range(40):
            key, node = rng.choice(list(next_seq)), rng.choice((A, B))
            id = actor_id("match", key)
            owned = (await store.claim("match", [Claim(id, turn + 1)], runs[node]))[id]
            assert isinstance(owned, Owned)
            began += 1
            # A node without columns notes nothing: its events count as those of the node that did last.
            recorder = Recorder(runs[node], began) if rng.random() < 0.8 else None
            noted[key] = node if recorder is not None else noted[key]
            for place in range(rng.randrange(1, 4)):
                first, last = next_seq[key], next_seq[key] + rng.randrange(3)
                head = bytes([last % 256]) * 16
                append = Append(
                    id, owned.epoch, first, last, heads[key], head, b"x", match(0, "live"),
                    recorder=recorder if not place else None,
                )  # fmt: skip
                for _ in range(2):  # the same again is written, and notes nothing else
                    assert (await logs.append("match", [append]))[id] == "written"
                if noted[key] is not None:
                    wanted[str(noted[key])] |= {(key, seq) for seq in range(first, last + 1)}
                next_seq[key], heads[key] = last + 1, head
            late = Append(id, Epoch(owned.epoch - 1), next_seq[key], next_seq[key], heads[key], b"h" * 16, b"x")
            late = Append(*[getattr(late, name) for name in late.__struct_fields__[:-1]], Recorder(runs[B], 10**9))
            assert (await logs.append("match", [late]))[id] == "fenced"
            await store.release("match", [(id, owned.epoch)])
        for node in (A, B):
            found = [(key, seq) for key, first, last in await spans(queries, node) for seq in range(first, last + 1)]
            assert len(found) == len(set(found)) and set(found) == wanted[node]
            assert await spans(queries, node, before=runs[node].incarnation) == []
        newest = [key for key, _, _ in await spans(queries, A)]
        assert newest and await spans(queries, A, since_ms=began + 1) == []
    await queries.close()


async def test_notes_outlive_a_seal_and_go_with_their_log(database: TestDatabase) -> None:
    queries = SqlStoreQueries(StoreSettings(url=database.url), {"recorded": RECORDED})
    async with database.connect() as (store, logs):
        me = NodeAddress(A, await store.register_node(A, 30.0))
        id = actor_id("match", "m1")
        owned = (await store.claim("match", [Claim(id, 1)], me))[id]
        assert isinstance(owned, Owned)
        append = Append(id, owned.epoch, 1, 3, b"", b"h" * 16, b"x", match(5), recorder=Recorder(me, 7))
        await logs.append("match", [append])
        assert await logs.seal("match", Seal(id, owned.epoch, 1, 3, b"sealed")) == "written"
        assert await spans(queries, A) == [("m1", 1, 3)]
        await store.release("match", [(id, owned.epoch)])
        assert (await logs.delete_logs("match", [OverLog(id, 5, owned.epoch)]))[id] == "deleted"
        assert await spans(queries, A) == []
    await queries.close()
    assert Incarnation(1) == me.incarnation
