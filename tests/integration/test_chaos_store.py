"""The triggers of a chaos run in real databases: an orderly cluster has no double writer, a planted
one is found."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from server.eventlog.ports import Append
from server.ids import ActorId, NodeAddress, NodeId
from server.lab.chaos.stores import ChaosStore, PostgresStore, SqliteStore, connected
from server.lab.chaos.writes import Write, double_writes
from server.storage.ports import Change, Claim, EntityMove, Owned
from tests.support import databases

P, Q = ActorId("player/p"), ActorId("player/q")
STATE = databases.STATE_TYPES["player"]


class Cluster:
    """Two nodes on one database."""

    def __init__(self, watched: ChaosStore) -> None:
        self.watched = watched
        self.stores: list[Any] = []
        self.nodes: list[NodeAddress] = []

    async def start(self, stack: AsyncExitStack) -> None:
        await self.watched.install()
        for number in (1, 2):
            store = databases.sql_store(self.watched.url_for(f"node-{number}/{number}"))
            await store.open()
            stack.push_async_callback(store.close)
            self.stores.append(store)
            name = NodeId(f"node-{number}")
            self.nodes.append(NodeAddress(name, await store.register_node(name, 60.0)))

    async def claim(self, which: int, token: int = 1, kind: str = "player", *ids: ActorId) -> dict[ActorId, Any]:
        wanted = [Claim(one, token) for one in ids or (P, Q)]
        return dict(await self.stores[which].claim(kind, wanted, self.nodes[which]))

    async def write(self, which: int, epoch: int, version: int, name: str = "") -> str:
        change = Change(P, epoch, version, STATE(display_name=name or f"v{version}"))  # type: ignore[arg-type,call-arg]
        return str((await self.stores[which].write("player", [change]))[P])

    async def plant(self, *statements: str) -> list[str]:
        """What the audit finds after statements that no node would send."""
        async with connected(self.watched.url) as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
            await connection.commit()
        return [one.why for one in double_writes(await self.watched.writes())]


def watched(name: str, folder: Path) -> ChaosStore:
    url = databases.fresh(name, folder).url
    if name == "sqlite":
        return SqliteStore(url, local=True)
    parsed = make_url(url)
    return PostgresStore(parsed, parsed.set(database="postgres"), None)


@pytest.fixture(params=databases.SQL_DATABASES)
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(watched(request.param, tmp_path))
    async with AsyncExitStack() as stack:
        await made.start(stack)
        yield made


async def life(cluster: Cluster) -> int:
    """Claim, write, release, claim, move to the other node and back to work there; the last epoch."""
    first = (await cluster.claim(0))[P]
    assert isinstance(first, Owned)
    assert await cluster.write(0, first.epoch, 3) == "written"
    await cluster.stores[0].release("player", [(P, first.epoch)])
    second = (await cluster.claim(1))[P]
    assert await cluster.write(1, second.epoch, 5) == "written"
    assert await cluster.write(0, first.epoch, 9) == "fenced"
    move = EntityMove(P, second.epoch, 7, cluster.nodes[0], STATE(display_name="moved"))  # type: ignore[call-arg]
    assert (await cluster.stores[1].migrate("player", [move]))[P] == "moved"
    assert await cluster.write(0, second.epoch + 1, 8) == "written"
    return int(second.epoch) + 1


async def test_an_orderly_life_has_no_double_writer(cluster: Cluster) -> None:
    await life(cluster)
    writes = await cluster.watched.writes()
    changes = [write for write in writes if write.entity == P and write.version != write.old_version]
    assert [(change.version, change.owner) for change in changes] == [
        (3, "node-1#1"), (5, "node-2#2"), (7, "node-1#1"), (8, "node-1#1"),
    ]  # fmt: skip
    assert double_writes(writes) == []
    assert await cluster.watched.owners([P, "match/none"]) == {P: "node-1"}


async def test_a_log_and_who_wrote_it(cluster: Cluster) -> None:
    match = ActorId("match/m")
    owned = (await cluster.claim(0, 1, "match", match))[match]
    batch = [Append(match, owned.epoch, 1, 2, b"", b"h2", b"data")]
    assert (await cluster.stores[0].append("match", batch))[match] == "written"
    writes = [one for one in await cluster.watched.writes() if one.entity == match]
    assert [(write.old_next_seq, write.next_seq) for write in writes] == [(1, 1), (1, 1), (1, 3)]
    assert double_writes(writes) == []
    assert {write.writer for write in writes} == ({""} if "sqlite" in cluster.watched.url else {"node-1/1"})
    assert await cluster.plant("UPDATE matches SET next_seq = 2") == ["log ends at 2 after 3"]


async def test_actors_of_one_key_are_told_apart(cluster: Cluster) -> None:
    """A player, its friends and its standing are three, whose rows are of tables with keys of other names."""
    kinds = ("player", "friends", "standing", "party", "match")
    names = {kind: ActorId(f"{kind}/p") for kind in kinds}
    for number, kind in enumerate(kinds):
        await cluster.claim(number % 2, 1, kind, names[kind])
    writes = await cluster.watched.writes()
    assert {write.entity for write in writes} == set(names.values()) and double_writes(writes) == []
    owners = {name: f"node-{number % 2 + 1}" for number, name in enumerate(names.values())}
    assert await cluster.watched.owners(list(names.values())) == owners


async def test_a_write_past_its_fence_is_found(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's own statement without its condition on the epoch."""
    epoch = await life(cluster)
    database = cluster.stores[1]._database
    original = database.write

    async def unfenced(mapping: Any, batch: Any) -> set[str]:
        from persistence.engine import postgres_database, sqlite_database

        module: Any = sqlite_database if "sqlite" in cluster.watched.url else postgres_database
        sql = module._statements(mapping)
        monkeypatch.setattr(
            sql, "write", sql.write.replace("AND t.epoch = v.epoch ", "").replace("AND epoch = ? ", "AND ? > 0 ")
        )
        return set(await original(mapping, batch))

    monkeypatch.setattr(database, "write", unfenced)
    assert await cluster.write(1, epoch - 1, 20) == "written"
    found = [one.why for one in double_writes(await cluster.watched.writes())]
    assert found == [f"version 20 written under epoch {epoch - 1}, the row's being {epoch}"]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE players SET epoch = 1, state_version = 9, state_epoch = 1", "epoch 1 after 3"),
        ("UPDATE players SET owner_node = 'node-2', owner_incarnation = 2", "epoch 3 of node-1#1 and of node-2#2"),
        ("UPDATE players SET display_name = 'other'", "version 8 has two contents"),
        ("UPDATE players SET state_version = 2", "version 2 after 8"),
    ],
)
async def test_planted_double_writes_are_counted(cluster: Cluster, statement: str, why: str) -> None:
    await life(cluster)
    assert await cluster.plant(f"{statement} WHERE player_id = 'p'") == [why]


async def test_consequences_of_the_state_are_no_second_content(cluster: Cluster) -> None:
    """A match's last release says that its facts are told, under the version that it has."""
    await life(cluster)
    assert await cluster.plant("UPDATE players SET open_facts = true WHERE player_id = 'p'") == []


async def test_an_outage_ends(cluster: Cluster) -> None:
    rng = random.Random(1)
    how = await cluster.watched.outage(0.05, rng)
    assert how in ("the write lock was held by another process", "connections were ended and refused")
    assert isinstance((await cluster.claim(0))[P], Owned)
    writes: list[Write] = await cluster.watched.writes()
    assert double_writes(writes) == []
