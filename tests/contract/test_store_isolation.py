"""One thing that an SQL store cannot take does not hinder the others, and is not taken for a store that is away."""

import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import migrations
from game.player.state import PlayerState
from server.errors import Internal, Unavailable
from server.eventlog.ports import Append
from server.ids import ActorId, Epoch, NodeAddress, NodeId, actor_id
from server.runtime.clock import SystemClock
from server.runtime.metrics import Metrics
from server.settings import StoreSettings
from server.storage.group_commit import GroupCommit
from server.storage.journal.retention import JournalRetention
from server.storage.ports import Change, Claim, Elsewhere, Owned
from server.storage.write_behind import WriteBehind
from tests.support.databases import SQL_DATABASES, fresh, sql_store
from tests.support.stores import LEASE_S, A, B, owned


@pytest.fixture(params=SQL_DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return fresh(request.param, tmp_path).url


async def execute(url: str, statement: str) -> None:
    await migrations.run(url, lambda connection: connection.execute(text(statement)))


class Player:
    """A dirty player as the flusher sees it."""

    kind = "player"
    version = 1
    stored_version = 0
    dirty = False

    def __init__(self, id: ActorId, epoch: Epoch, name: str) -> None:
        self.id, self.epoch, self.boundary = id, epoch, PlayerState(display_name=name)

    def note_stored(self, version: int) -> None:
        self.stored_version = version

    def released(self, version: int) -> None:
        raise AssertionError("there is no journal")

    def fenced(self) -> None:
        raise AssertionError("it is owned here")


class OneEntry:
    """A log of a single entry as the committer sees it."""

    kind = "tally"

    def __init__(self, id: ActorId, epoch: Epoch) -> None:
        self.id, self.outcome = id, ""
        self._append = Append(id, epoch, 1, 1, b"", b"h1", b"data")

    def take(self) -> Append | None:
        return None if self.outcome else self._append

    def backlog(self) -> int:
        return 0 if self.outcome else 1

    def committed(self, append: Append) -> None:
        self.outcome = "committed"

    def broken(self, error: Exception) -> None:
        assert isinstance(error, Internal)
        self.outcome = "broken"

    def fenced(self) -> None:
        self.outcome = "fenced"

    def overdue(self) -> None:
        raise AssertionError("the store is there")

    async def seal_due(self) -> None:
        return None

    def sealed(self, seal: Any) -> None:
        raise AssertionError("nothing was to be sealed")

    seal_failed = overdue


async def test_a_state_that_an_operators_constraint_refuses_is_a_value_that_does_not_fit(url: str) -> None:
    await execute(url, "CREATE UNIQUE INDEX one_name ON players (display_name) WHERE display_name <> ''")
    store = sql_store(url)
    await store.open()
    try:
        me = NodeAddress(A, await store.register_node(A, LEASE_S))
        ids = [actor_id("player", key) for key in ("a", "b")]
        await store.claim("player", [Claim(id, 1) for id in ids], me)
        first, second = (Change(id, Epoch(1), 1, PlayerState(display_name="same")) for id in ids)
        assert await store.write("player", [first]) == {ids[0]: "written"}
        with pytest.raises(Internal):
            await store.write("player", [second])
    finally:
        await store.close()


async def test_a_flush_stores_every_state_but_the_one_that_does_not_fit(url: str) -> None:
    await execute(url, "CREATE UNIQUE INDEX one_name ON players (display_name) WHERE display_name <> ''")
    store = sql_store(url)
    await store.open()
    try:
        me = NodeAddress(A, await store.register_node(A, LEASE_S))
        names = {actor_id("player", f"p{n}"): f"name {min(n, 5)}" for n in range(7)}  # the last two are the same
        await store.claim("player", [Claim(id, 1) for id in names], me)
        settings, clock = StoreSettings(url=url), SystemClock()
        retention = JournalRetention(None, settings, clock)
        flusher = WriteBehind(store, settings, clock, Metrics(), random.Random(1), retention)
        players = [Player(id, Epoch(1), name) for id, name in names.items()]
        for player in players:
            flusher.mark(player)
        await flusher.flush()
        assert not flusher.failing
        stored = await store.read("player", list(names))
        unfit = [player for player in players if player.stored_version == 0]
        assert len(unfit) == 1 and unfit[0].boundary.display_name == "name 5"
        assert stored.keys() == names.keys() - {unfit[0].id}
        with pytest.raises(Unavailable, match="cannot be stored"):
            flusher.check(unfit[0])
        await execute(url, "DROP INDEX one_name")
        await flusher.flush()
        assert len(flusher) == 0 and unfit[0].stored_version == 1
    finally:
        await store.close()


async def test_a_log_that_cannot_be_appended_to_breaks_alone(url: str) -> None:
    """Its first chunk is there already: somebody has put it there, or has removed the log's row."""
    store = sql_store(url)
    await store.open()
    try:
        me = NodeAddress(A, await store.register_node(A, LEASE_S))
        ids = [actor_id("tally", key) for key in ("bad", "fine", "good")]
        await store.claim("tally", [Claim(id, 1) for id in ids], me)
        await execute(
            url,
            "INSERT INTO log_chunks (kind, key, first_seq, last_seq, sealed, data) "
            "VALUES ('tally', 'bad', 1, 5, false, 'x')",
        )
        committer = GroupCommit(store, StoreSettings(url=url), SystemClock(), Metrics(), random.Random(1))
        logs = [OneEntry(id, Epoch(1)) for id in ids]
        for log in logs:
            committer.enqueue(log, 1)
        await committer.commit()
        assert [log.outcome for log in logs] == ["broken", "committed", "committed"]
    finally:
        await store.close()


async def test_an_incarnation_alone_does_not_say_whose_an_entity_is(url: str) -> None:
    """Two nodes with one number can only come from outside, as by a backup that was put back."""
    store = sql_store(url)
    await store.open()
    try:
        on_a = NodeAddress(A, await store.register_node(A, LEASE_S))
        await execute(url, f"INSERT INTO nodes (node_id, incarnation, state) VALUES ('{B}', {on_a.incarnation}, 'up')")
        claim = Claim(actor_id("wallet", "one"), 1)
        assert isinstance(await owned(store, "wallet", claim, on_a), Owned)
        on_b = NodeAddress(NodeId(B), on_a.incarnation)
        assert await store.claim("wallet", [claim], on_b) == {claim.id: Elsewhere(on_a)}
    finally:
        await store.close()
