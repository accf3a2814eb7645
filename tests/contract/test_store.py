"""What every `Store` does: node leases, claims, fenced writes (rules 1, 3 and 4 in docs/guarantees.md)."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from game.player.state import PlayerState, SettledMatch
from game.saved_commands import SavedCommand, SavedCommands
from server.errors import Internal, Unavailable
from server.ids import Epoch, Incarnation, NodeAddress, NodeId, actor_id
from server.storage.ports import Absent, Change, Claim, Elsewhere, Owned, Store, Stored
from tests.support.databases import DATABASES, Wallet, fresh
from tests.support.stores import LEASE_S, A, B, Pair, expired, owned
from tests.support.waiting import until


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return fresh(request.param, tmp_path)


@pytest.fixture(params=["wallet", "player"])
async def pair(request: pytest.FixtureRequest, database: Any) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        a, _ = await stack.enter_async_context(database.connect())
        b, _ = await stack.enter_async_context(database.connect())
        made = Pair(request.param, a, b)
        await made.register()
        yield made


@pytest.fixture
async def store(database: Any) -> AsyncIterator[Store]:
    async with database.connect() as (made, _):
        yield made


# ---- nodes and leases ----


async def test_a_claim_that_is_not_to_make_anything_makes_nothing(pair: Pair) -> None:
    one, two = pair.claims("one", "two")
    await pair.own_a("two")
    await pair.a.release(pair.kind, [(pair.id("two"), Epoch(1))])
    claims = [replace(one, make=False), replace(two, token=two.token + 10, make=False)]
    found = await pair.a.claim(pair.kind, claims, pair.on_a)
    assert found[pair.id("one")] == Absent()
    held = found[pair.id("two")]
    assert isinstance(held, Owned) and held.epoch == 2, "what is there is claimed as ever"
    again = await pair.b.claim(pair.kind, [replace(one, make=False)], pair.on_b)
    assert again[pair.id("one")] == Absent()
    assert (await pair.own_b()).epoch == 1, "it was never there before"
    taken = await pair.a.claim(pair.kind, [replace(one, token=one.token + 20, make=False)], pair.on_a)
    assert taken[pair.id("one")] == Elsewhere(pair.on_b)


async def test_incarnations_rise_over_all_nodes(store: Store) -> None:
    first = await store.register_node(A, LEASE_S)
    second = await store.register_node(B, LEASE_S)
    await store.retire_node(NodeAddress(A, first))
    third = await store.register_node(A, LEASE_S)
    assert first < second < third


async def test_a_live_run_keeps_its_name(store: Store) -> None:
    await store.register_node(A, LEASE_S)
    with pytest.raises(Unavailable) as caught:
        await store.register_node(A, LEASE_S)
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= LEASE_S
    assert [row.state for row in await store.nodes()] == ["up"]


async def test_a_run_without_a_lease_gives_way_to_the_next(store: Store) -> None:
    first = await store.register_node(A, None)
    (row,) = await store.nodes()
    assert row.lease_left_s == math.inf
    assert await store.bury_expired() == []
    second = await store.register_node(A, None)
    assert [(row.incarnation, row.state) for row in await store.nodes()] == [(first, "dead"), (second, "up")]
    assert not await store.renew_lease(NodeAddress(A, first), LEASE_S)


async def test_an_expired_node_that_gossip_says_is_alive_has_some_grace(store: Store) -> None:
    me = NodeAddress(A, await store.register_node(A, 0.001))
    await until(lambda: expired(store, me))
    assert await store.bury_expired([me], 60.0) == []
    assert await store.bury_expired([NodeAddress(B, me.incarnation)], 60.0) == [me]


async def test_the_grace_of_an_expired_node_ends(store: Store) -> None:
    me = NodeAddress(A, await store.register_node(A, 0.001))
    await until(lambda: expired(store, me))

    async def buried() -> bool:
        return await store.bury_expired([me], 0.01) == [me]

    await until(buried)


async def test_an_expired_lease_can_be_renewed_until_it_is_buried_and_then_never(store: Store) -> None:
    me = NodeAddress(A, await store.register_node(A, 0.001))
    other = NodeAddress(B, await store.register_node(B, LEASE_S))
    await until(lambda: expired(store, me))
    assert await store.renew_lease(me, 0.001)
    await until(lambda: expired(store, me))
    assert await store.bury_expired() == [me]
    assert await store.bury_expired() == []
    assert not await store.renew_lease(me, LEASE_S)
    assert not await store.renew_lease(me, LEASE_S)
    assert await store.renew_lease(other, LEASE_S)
    states = {(row.node, row.state) for row in await store.nodes()}
    assert states == {(A, "dead"), (B, "up")}


async def test_a_renewal_counts_from_now(store: Store) -> None:
    me = NodeAddress(A, await store.register_node(A, 1.0))
    assert await store.renew_lease(me, 50.0)
    (row,) = await store.nodes()
    assert 45.0 < row.lease_left_s <= 50.0


async def test_a_run_that_left_stays_gone(store: Store) -> None:
    me = NodeAddress(A, await store.register_node(A, LEASE_S))
    await store.retire_node(me)
    assert not await store.renew_lease(me, LEASE_S)
    assert [row.state for row in await store.nodes()] == ["left"]
    again = await store.register_node(A, LEASE_S)
    await store.retire_node(me)
    assert [(row.incarnation, row.state) for row in await store.nodes()] == [
        (me.incarnation, "dead"),
        (again, "up"),
    ]


async def test_an_expired_run_gives_way_to_a_restart_under_its_name(store: Store) -> None:
    first = NodeAddress(A, await store.register_node(A, 0.001))
    await until(lambda: expired(store, first))
    second = await store.register_node(A, LEASE_S)
    assert second > first.incarnation
    assert not await store.renew_lease(first, LEASE_S)


async def test_two_runs_of_one_name_at_once_one_wins(database: Any) -> None:
    async with database.connect() as (a, _), database.connect() as (b, _):
        results = await asyncio.gather(a.register_node(A, LEASE_S), b.register_node(A, LEASE_S), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Unavailable", "int"]


# ---- claims ----


async def test_a_first_claim_makes_the_row(pair: Pair) -> None:
    result = await pair.own_a()
    assert result == Owned(Epoch(1), Epoch(0), 0, None)
    assert await pair.stored() is None, "a claimed entity that was never written has nothing stored"


async def test_reading_neither_claims_nor_inserts(pair: Pair) -> None:
    assert await pair.b.read(pair.kind, [pair.id("one"), pair.id("two")]) == {}
    assert (await pair.own_a()).epoch == 1


async def test_a_live_owner_keeps_its_entity(pair: Pair) -> None:
    held = await pair.own_a()
    assert await pair.try_b() == Elsewhere(pair.on_a)
    assert await pair.write(pair.a, held.epoch, 1, 5) == "written"


async def test_released_is_claimable_with_its_state(pair: Pair) -> None:
    held = await pair.own_a()
    assert await pair.write(pair.a, held.epoch, 7, 5) == "written"
    await pair.a.release(pair.kind, [(pair.id("one"), held.epoch)])
    assert await pair.try_b() == Owned(Epoch(2), Epoch(1), 7, pair.state(5))


async def test_entities_of_a_node_that_left_are_claimable(pair: Pair) -> None:
    await pair.own_a()
    await pair.a.retire_node(pair.on_a)
    assert (await pair.own_b()).epoch == 2


async def test_entities_of_a_dead_node_are_claimable_only_once_it_is_buried(pair: Pair) -> None:
    await pair.own_a()
    await pair.a.renew_lease(pair.on_a, 0.001)
    await until(lambda: expired(pair.b, pair.on_a))
    assert await pair.try_b() == Elsewhere(pair.on_a)
    assert await pair.b.bury_expired() == [pair.on_a]
    assert (await pair.own_b()).epoch == 2


async def test_a_restarted_node_claims_what_its_last_run_owned(pair: Pair) -> None:
    old = await pair.own_a()
    await pair.a.retire_node(pair.on_a)
    pair.on_a = NodeAddress(A, await pair.a.register_node(A, LEASE_S))
    again = await pair.own_a()
    assert again.epoch == 2
    assert await pair.write(pair.a, old.epoch, 1, 1) == "fenced"


async def test_a_node_that_is_not_up_claims_nothing(pair: Pair) -> None:
    await pair.a.retire_node(pair.on_a)
    with pytest.raises(Unavailable):
        await pair.a.claim(pair.kind, pair.claims("one"), pair.on_a)
    with pytest.raises(Unavailable):
        await pair.a.claim(pair.kind, pair.claims("one"), NodeAddress(NodeId("nobody"), Incarnation(99)))
    assert (await pair.own_b()).epoch == 1


async def test_my_own_newer_claim_raises_the_epoch(pair: Pair) -> None:
    first = await pair.own_a()
    second = await pair.own_a()
    assert (first.epoch, second.epoch) == (1, 2)
    assert await pair.write(pair.a, first.epoch, 1, 1) == "fenced"
    assert await pair.write(pair.a, second.epoch, 1, 1) == "written"


async def test_a_late_claim_does_not_fence_a_newer_one(pair: Pair) -> None:
    (late,), (newer,) = pair.claims("one"), pair.claims("one")
    held = await owned(pair.a, pair.kind, newer, pair.on_a)
    assert (await pair.a.claim(pair.kind, [late], pair.on_a))[late.id] == Elsewhere(pair.on_a)
    assert await pair.write(pair.a, held.epoch, 1, 5) == "written"


async def test_the_same_claim_again_gets_the_same_epoch(pair: Pair) -> None:
    (claim,) = pair.claims("one")
    held = await owned(pair.a, pair.kind, claim, pair.on_a)
    assert await pair.write(pair.a, held.epoch, 1, 5) == "written"
    again = await owned(pair.a, pair.kind, claim, pair.on_a)
    assert (again.epoch, again.state_version) == (held.epoch, 1)
    assert await pair.write(pair.a, held.epoch, 2, 6) == "written"


async def test_a_late_claim_does_not_take_back_what_was_released(pair: Pair) -> None:
    (late,), (newer,) = pair.claims("one"), pair.claims("one")
    held = await owned(pair.a, pair.kind, newer, pair.on_a)
    await pair.a.release(pair.kind, [(newer.id, held.epoch)])
    for claim in (late, newer):
        assert (await pair.a.claim(pair.kind, [claim], pair.on_a))[claim.id] == Elsewhere(pair.on_a)
    assert (await pair.own_b()).epoch == 2


async def test_tokens_of_different_nodes_do_not_mix(pair: Pair) -> None:
    held = await owned(pair.a, pair.kind, Claim(pair.id("one"), 1_000), pair.on_a)
    await pair.a.release(pair.kind, [(pair.id("one"), held.epoch)])
    assert (await owned(pair.b, pair.kind, Claim(pair.id("one"), 1), pair.on_b)).epoch == 2


async def test_a_batch_gets_each_its_own_answer(pair: Pair) -> None:
    await pair.own_a("b")
    mine = await pair.own_b("c")
    assert await pair.write(pair.b, mine.epoch, 3, 30, "c") == "written"
    results = await pair.b.claim(pair.kind, pair.claims("a", "b", "c"), pair.on_b)
    assert list(results) == [pair.id("a"), pair.id("b"), pair.id("c")]
    assert results[pair.id("a")] == Owned(Epoch(1), Epoch(0), 0, None)
    assert results[pair.id("b")] == Elsewhere(pair.on_a)
    assert results[pair.id("c")] == Owned(Epoch(2), Epoch(1), 3, pair.state(30), clean=False)


async def test_five_hundred_at_once_and_not_more(pair: Pair) -> None:
    keys = [f"k{n:04}" for n in range(501)]
    results = await pair.a.claim(pair.kind, pair.claims(*keys[:500]), pair.on_a)
    assert len(results) == 500
    assert all(isinstance(result, Owned) for result in results.values())
    with pytest.raises(Internal):
        await pair.a.claim(pair.kind, pair.claims(*keys), pair.on_a)


async def test_two_nodes_race_for_the_same_entities(pair: Pair) -> None:
    keys = [f"k{n:03}" for n in range(200)]
    for_a, for_b = pair.claims(*keys), pair.claims(*keys)
    got_a, got_b = await asyncio.gather(
        pair.a.claim(pair.kind, for_a, pair.on_a), pair.b.claim(pair.kind, for_b, pair.on_b)
    )
    for key in keys:
        pairs = [got_a[pair.id(key)], got_b[pair.id(key)]]
        winners = [result for result in pairs if isinstance(result, Owned)]
        assert len(winners) == 1, pairs
        assert winners[0].epoch == 1
        loser = next(result for result in pairs if isinstance(result, Elsewhere))
        assert loser.owner == (pair.on_a if isinstance(pairs[0], Owned) else pair.on_b)


async def test_claims_in_many_batches_at_once_neither_deadlock_nor_double(pair: Pair) -> None:
    """Overlapping batches of both nodes, with writes and releases between them."""
    keys = [f"k{n:03}" for n in range(60)]

    async def work(store: Store, me: NodeAddress, start: int) -> None:
        for step in range(8):
            some = sorted(keys[(start + step * 7) % 60 :] + keys[: (start + step * 3) % 20])[:40]
            results = await store.claim(pair.kind, pair.claims(*dict.fromkeys(some)), me)
            held = [(id, result) for id, result in results.items() if isinstance(result, Owned)]
            changes = [
                Change(id, result.epoch, result.state_version + 1, pair.state(result.state_version + 1))
                for id, result in held
            ]
            written = await store.write(pair.kind, changes)
            assert set(written.values()) <= {"written", "fenced"}
            await store.release(pair.kind, [(id, result.epoch) for id, result in held])

    await asyncio.gather(*(work(pair.a, pair.on_a, n) for n in (0, 20)), work(pair.b, pair.on_b, 10))
    stored = await pair.b.read(pair.kind, [pair.id(key) for key in keys])
    for found in stored.values():
        assert found.state == pair.state(found.state_version), "every version that was written is whole"


# ---- writes ----


async def test_versions_only_rise(pair: Pair) -> None:
    held = await pair.own_a()
    assert await pair.write(pair.a, held.epoch, 5, 50) == "written"
    assert await pair.write(pair.a, held.epoch, 4, 40) == "written", "older than what is stored: it is in there"
    assert await pair.stored() == Stored(held.epoch, 5, pair.state(50))
    assert await pair.write(pair.a, held.epoch, 9, 90) == "written"
    assert await pair.stored() == Stored(held.epoch, 9, pair.state(90))


async def test_a_repeated_write_is_written_and_changes_nothing(pair: Pair) -> None:
    held = await pair.own_a()
    assert await pair.write(pair.a, held.epoch, 1, 10) == "written"
    assert await pair.write(pair.a, held.epoch, 1, 99) == "written"
    assert await pair.stored() == Stored(held.epoch, 1, pair.state(10))


async def test_a_successor_fences_the_old_owner(pair: Pair) -> None:
    old = await pair.own_a()
    assert await pair.write(pair.a, old.epoch, 3, 30) == "written"
    await pair.a.retire_node(pair.on_a)
    new = await pair.own_b()
    assert await pair.write(pair.a, old.epoch, 4, 40) == "fenced"
    assert await pair.write(pair.a, old.epoch, 3, 30) == "written", "that one was stored under the old epoch"
    assert await pair.write(pair.b, new.epoch, 4, 44) == "written"
    assert await pair.write(pair.a, old.epoch, 3, 30) == "fenced", "whether it was can no longer be told"
    assert await pair.stored() == Stored(new.epoch, 4, pair.state(44))


async def test_a_write_without_a_row_is_fenced(pair: Pair) -> None:
    assert await pair.write(pair.a, Epoch(1), 1, 1, "nobody") == "fenced"
    assert await pair.stored("nobody") is None


async def test_a_fenced_change_does_not_hinder_the_others(pair: Pair) -> None:
    held = {key: await pair.own_a(key) for key in ("a", "b", "c")}
    await pair.own_a("b")
    changes = [Change(pair.id(key), held[key].epoch, 1, pair.state(7)) for key in ("a", "b", "c")]
    results = await pair.a.write(pair.kind, changes)
    assert results == {pair.id("a"): "written", pair.id("b"): "fenced", pair.id("c"): "written"}
    assert list(await pair.b.read(pair.kind, [change.id for change in changes])) == [pair.id("a"), pair.id("c")]


async def test_a_release_by_an_old_epoch_does_nothing(pair: Pair) -> None:
    old = await pair.own_a()
    await pair.own_a()
    await pair.a.release(pair.kind, [(pair.id("one"), old.epoch)])
    assert await pair.try_b() == Elsewhere(pair.on_a)


async def test_epochs_are_never_reset(pair: Pair) -> None:
    epochs = []
    for _ in range(3):
        for claim, store, me in ((pair.own_a, pair.a, pair.on_a), (pair.own_b, pair.b, pair.on_b)):
            held = await claim()
            epochs.append(held.epoch)
            await store.write(pair.kind, [Change(pair.id("one"), held.epoch, held.state_version + 1, pair.state(0))])
            await store.release(pair.kind, [(pair.id("one"), held.epoch)])
            assert me
    assert epochs == [1, 2, 3, 4, 5, 6]


async def test_empty_batches(pair: Pair) -> None:
    assert await pair.a.claim(pair.kind, [], pair.on_a) == {}
    assert await pair.a.write(pair.kind, []) == {}
    assert await pair.a.read(pair.kind, []) == {}
    await pair.a.release(pair.kind, [])


async def test_a_kind_that_nobody_named(store: Store) -> None:
    with pytest.raises(Internal):
        await store.read("ghost", [actor_id("ghost", "x")])


async def test_kinds_of_the_shared_table_keep_apart(store: Store) -> None:
    me = NodeAddress(A, await store.register_node(A, LEASE_S))
    for kind in ("wallet", "tally"):
        held = await owned(store, kind, Claim(actor_id(kind, "same"), 1), me)
        assert held.epoch == 1
    await store.write("wallet", [Change(actor_id("wallet", "same"), Epoch(1), 1, Wallet(3))])
    assert await store.read("tally", [actor_id("tally", "same")]) == {}


async def test_a_player_comes_back_whole(store: Store) -> None:
    me = NodeAddress(A, await store.register_node(A, LEASE_S))
    state = PlayerState(
        display_name="Spartan 'Ünï' 117",
        emblem='"e"',
        status="busy",
        chosen="busy",
        last_seen_ms=1_700_000_000_123,
        match="m-1",
        matches=1,
        wins=2,
        kills=3,
        deaths=4,
        assists=5,
        medals=6,
        answered={"line": SavedCommands(3, (SavedCommand(4, 9),))},
        settled=(SettledMatch("m-0", 17),),
        settled_floor_ms=3,
    )
    id = actor_id("player", "p")
    held = await owned(store, "player", Claim(id, 1), me)
    assert await store.write("player", [Change(id, held.epoch, 9, state)]) == {id: "written"}
    assert (await store.read("player", [id]))[id].state == state
    assert (await owned(store, "player", Claim(id, 2), me)).state == state


async def test_a_name_with_a_nul_does_not_stop_the_batch(store: Store) -> None:
    me = NodeAddress(A, await store.register_node(A, LEASE_S))
    ids = [actor_id("player", key) for key in ("p", "q")]
    held = await store.claim("player", [Claim(id, n) for n, id in enumerate(ids, 1)], me)
    assert all(isinstance(result, Owned) for result in held.values())
    changes = [Change(id, Epoch(1), 1, PlayerState(display_name="a\0b")) for id in ids]
    assert set((await store.write("player", changes)).values()) == {"written"}


async def test_a_value_that_does_not_fit_is_not_taken_for_a_store_that_is_away(store: Store) -> None:
    me = NodeAddress(A, await store.register_node(A, LEASE_S))
    good, bad = actor_id("player", "good"), actor_id("player", "bad")
    await store.claim("player", [Claim(bad, 1), Claim(good, 1)], me)
    unfit = Change(bad, Epoch(1), 1, PlayerState(kills=2**70))
    with pytest.raises(Exception, match=r".") as caught:
        await store.write("player", [unfit, Change(good, Epoch(1), 1, PlayerState(kills=1))])
    assert not isinstance(caught.value, Unavailable)
    assert await store.write("player", [Change(good, Epoch(1), 1, PlayerState(kills=1))]) == {good: "written"}
