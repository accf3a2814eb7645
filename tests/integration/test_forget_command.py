"""`garrison forget` (F2): a dead run whose journal nobody reads is listed, counted, and given up where that is said."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from game.player.state import PlayerState
from server.cli.app import run
from server.ids import NodeAddress, NodeId, actor_id
from server.liveness.ports import Estate
from server.storage.ports import Change, Claim, Elsewhere, Owned, Store
from tests.support.databases import SQL_DATABASES, TestDatabase, fresh

T = TypeVar("T")
ID = actor_id("player", "one")
PLACE = "local:node-2:host-9:boot:volume:run:/journals"
Garrison = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=SQL_DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


@pytest.fixture
def garrison(
    database: TestDatabase, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Garrison:
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[int, str, str]:
        code = run(("forget", *words, "--set", f"store.url={database.url}"))
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def on(database: TestDatabase, work: Callable[[Store], Awaitable[T]]) -> T:
    async def connected() -> T:
        async with database.connect() as (store, _):
            return await work(store)

    return asyncio.run(connected())


async def _left_behind(store: Store) -> NodeAddress:
    """A run that is dead, owns a player with a stored version, and has left an open journal."""
    me = NodeAddress(NodeId("node-2"), await store.register_node(NodeId("node-2"), 60.0, PLACE))
    (held,) = (await store.claim("player", [Claim(ID, 1)], me)).values()
    assert isinstance(held, Owned)
    await store.write("player", [Change(ID, held.epoch, 1, PlayerState(kills=3))])
    await store.bury(me)
    return me


async def _claimed(store: Store) -> Any:
    name = NodeId("node-1")
    me = NodeAddress(name, await store.register_node(name, None))
    try:
        return (await store.claim("player", [Claim(ID, 1)], me, ()))[ID]
    finally:
        await store.retire_node(me)


def test_nothing_to_forget_is_said(database: TestDatabase, garrison: Garrison) -> None:
    assert garrison() == (0, "no dead run has left an open journal\n", "")
    code, _, why = garrison("node-2", "--yes")
    assert code == 2 and "no dead run of node-2 has left an open journal" in why


def test_a_run_is_listed_and_counted_and_given_up_only_where_yes_is_said(
    database: TestDatabase, garrison: Garrison
) -> None:
    gone = on(database, _left_behind)
    assert on(database, _claimed) == Elsewhere(gone)
    code, said, why = garrison()
    assert (code, why) == (0, "") and f"{gone} is dead; it owns 1 of kind player. Its journal is open: {PLACE}" in said
    code, said, why = garrison("node-2")
    assert code == 2 and "say --yes" in why and str(gone) in said
    assert on(database, _claimed) == Elsewhere(gone)
    code, said, why = garrison(str(gone), "--yes", "--json")
    assert (code, why) == (0, "")
    assert json.loads(said) == [
        {"run": str(gone), "journal": PLACE, "entities": {"player": 1}, "back": "", "forgotten": True}
    ]
    taken = on(database, _claimed)
    assert isinstance(taken, Owned) and taken.state.kills == 3, "as it is stored"
    assert garrison("node-2", "--yes")[0] == 2, "once is enough"


def test_runs_that_own_nothing_any_more_are_given_up_together(database: TestDatabase, garrison: Garrison) -> None:
    """F27: pods with random names leave a run and a journal each, and nothing that waits for them."""

    async def pods(store: Store) -> list[NodeAddress]:
        runs = []
        for number in range(5):
            name = NodeId(f"pod-{number}")
            runs.append(NodeAddress(name, await store.register_node(name, -1.0, f"local:{name}")))
            await store.bury(runs[-1])
        return runs

    gone, runs = on(database, _left_behind), on(database, pods)
    assert len(garrison()[1].splitlines()) == 6
    code, said, why = garrison("--nothing")
    assert code == 2 and "say --yes" in why and len(said.splitlines()) == 5
    code, said, why = garrison("--nothing", "--yes", "--json")
    assert (code, why) == (0, "") and [left["run"] for left in json.loads(said)] == [str(run) for run in runs]
    assert on(database, lambda store: store.estates()) == [Estate(gone, PLACE)]
    assert on(database, lambda store: store.prune_nodes(0.0, 100)) == 5
    assert garrison("--nothing", "--yes") == (0, "no dead run has left an open journal\n", "")


def test_a_living_run_is_not_forgotten(database: TestDatabase, garrison: Garrison) -> None:
    async def alive(store: Store) -> NodeAddress:
        return NodeAddress(NodeId("node-2"), await store.register_node(NodeId("node-2"), 60.0, PLACE))

    me = on(database, alive)
    code, _, why = garrison("node-2", "--yes")
    assert code == 2 and f"{me} is not dead in the store" in why
    assert on(database, lambda store: store.renew_lease(me, 60.0))
    assert not on(database, lambda store: store.forget_estate(Estate(me, PLACE)))


def test_a_node_that_came_back_first_has_lost_nothing(database: TestDatabase, garrison: Garrison) -> None:
    """PROTOCOLS section 5: forgetting races the return. The store decides, by the journal that was shown."""
    gone = on(database, _left_behind)

    async def back(store: Store) -> NodeAddress:
        return NodeAddress(NodeId("node-2"), await store.register_node(NodeId("node-2"), 60.0, "local:another"))

    me = on(database, back)
    assert f"{me} is up: where it can read this journal, it does" in garrison()[1]

    async def both(store: Store) -> bool:
        await store.close_estate(gone)
        return await store.forget_estate(Estate(gone, PLACE))

    assert on(database, both) is False
    assert on(database, lambda store: store.forget_estate(Estate(gone, ""))) is False
