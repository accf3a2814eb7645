"""How ownership passes on: evictions, proven deaths, journals of runs that are over, moves; and
what every `Store` keeps for actors that sleep: orphans and reminders."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from msgspec.structs import replace

from game.match.state import MatchState
from server.errors import Internal, Unavailable
from server.eventlog.ports import Append
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId, actor_id, kind_of
from server.liveness.ports import Estate
from server.runtime.clock import SystemClock
from server.storage.memory import MemoryDatabase, MemoryStore
from server.storage.ports import Change, Claim, Elsewhere, EntityMove, Owned, Reminder, Store, Stored
from tests.support.databases import DATABASES, SQL_DATABASES, STATE_TYPES, Tally, Wallet, fresh
from tests.support.stores import LEASE_S, A, B, Pair, expired, owned
from tests.support.waiting import until

HERE, THERE = "host-1:/journals", "host-2:/journals"
C, D = NodeId("node-c"), NodeId("node-d")
NOBODY = NodeAddress(NodeId("nobody"), Incarnation(99))


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return fresh(request.param, tmp_path)


@pytest.fixture
async def pair(database: Any) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        a, _ = await stack.enter_async_context(database.connect())
        b, _ = await stack.enter_async_context(database.connect())
        made = Pair("wallet", a, b)
        await made.register(HERE)
        yield made


@pytest.fixture
async def store(database: Any) -> AsyncIterator[Store]:
    async with database.connect() as (made, _):
        yield made


async def started(store: Store, *names: NodeId, lease_s: float | None = LEASE_S) -> list[NodeAddress]:
    return [NodeAddress(name, await store.register_node(name, lease_s)) for name in names]


async def states(store: Store) -> dict[NodeId, str]:
    """The state of the newest run of each node."""
    return {row.node: row.state for row in await store.nodes()}


# ---- evictions ----


async def test_an_evicting_node_is_never_renewed_and_keeps_what_it_owns_until_it_is_dead(pair: Pair) -> None:
    held = await pair.own_a()
    await pair.a.renew_lease(pair.on_a, 1.0)
    (third,) = await started(pair.b, C)
    assert await pair.b.evict([pair.on_a], [pair.on_b, third]) == [pair.on_a]
    assert await states(pair.b) == {A: "evicting", B: "up", C: "up"}
    assert not await pair.a.renew_lease(pair.on_a, LEASE_S)
    assert await pair.try_b() == Elsewhere(pair.on_a)
    assert await pair.write(pair.a, held.epoch, 1, 5) == "written"
    with pytest.raises(Unavailable):
        await pair.a.claim(pair.kind, pair.claims("two"), pair.on_a)
    await until(lambda: expired(pair.b, pair.on_a))
    assert await pair.try_b() == Elsewhere(pair.on_a), "it is dead when somebody has said so"
    assert await pair.b.bury_expired([pair.on_a], 60.0) == [pair.on_a], "an evicting node is not spared"
    assert (await pair.own_b()).epoch == 2


async def test_an_evicting_node_holds_its_name_as_long_as_its_lease(store: Store) -> None:
    a, b, c = await started(store, A, B, C)
    assert await store.evict([a], [b, c]) == [a]
    assert await store.evict([a], [b, c]) == [], "it is evicting already"
    with pytest.raises(Unavailable) as caught:
        await store.register_node(A, LEASE_S)
    assert caught.value.retry_after_s is not None
    assert await store.bury(a)
    assert await store.register_node(A, LEASE_S) > a.incarnation


@pytest.mark.parametrize("side", ["", "a", "ab", "ad", "bc", "cd", "abc", "bcd", "abcd"])
async def test_a_majority_of_live_leases_evicts_or_half_of_them_with_the_lowest(store: Store, side: str) -> None:
    wins = side in ("ab", "ad", "abc", "bcd", "abcd")
    nodes = dict(zip("abcd", await started(store, A, B, C, D), strict=True))
    others = [nodes[name] for name in "abcd" if name not in side]
    evicted = await store.evict(list(nodes.values()), [nodes[name] for name in side])
    assert evicted == (others if wins else []), "never one of its own side"


async def test_eviction_ignores_expired_leases(store: Store) -> None:
    a, b = await started(store, A, B)
    (late,) = await started(store, C, lease_s=0.001)
    (gone,) = await started(store, D)
    await store.retire_node(gone)
    await until(lambda: expired(store, late))
    assert await store.evict([a, late, gone, NOBODY], [b, late, gone]) == [], "a is the lowest of two"
    assert await store.evict([b, late, gone, NOBODY], [a]) == [b, late]
    assert await states(store) == {A: "up", B: "evicting", C: "evicting", D: "left"}


async def test_an_evicting_node_with_a_lease_counts_as_live(store: Store) -> None:
    a, b, c = await started(store, A, B, C)
    assert await store.evict([a], [b, c]) == [a]
    assert await store.evict([b], [c]) == [], "one of three"
    assert await store.evict([c], [a, b]) == [c]


async def test_a_node_without_a_lease_counts_for_ever(store: Store) -> None:
    a, b = await started(store, A, B, lease_s=None)
    assert await store.evict([a], [b]) == []
    assert await store.evict([b], [a]) == [b]
    assert await store.bury_expired() == []


async def test_two_sides_at_once_one_wins(database: Any) -> None:
    async with database.connect() as (left, _), database.connect() as (right, _):
        for _ in range(5):
            a, b, c, d = await started(left, A, B, C, D)
            await asyncio.gather(left.evict([c, d], [a, b]), right.evict([a, b], [c, d]))
            assert await states(left) == {A: "up", B: "up", C: "evicting", D: "evicting"}
            for node in (a, b, c, d):
                await left.bury(node)


# ---- proven deaths, and what is left in journals ----


async def test_a_proven_death_does_not_wait_for_the_lease(pair: Pair) -> None:
    await pair.own_a()
    assert await pair.b.bury(pair.on_a)
    assert await pair.b.bury(pair.on_a), "it is dead now, whoever said so"
    assert not await pair.b.bury(NOBODY)
    assert not await pair.a.renew_lease(pair.on_a, LEASE_S)
    assert (await pair.own_b()).epoch == 2
    assert await pair.b.bury_expired() == []


async def test_runs_that_are_over_leave_an_estate_until_it_is_settled(store: Store) -> None:
    a = NodeAddress(A, await store.register_node(A, LEASE_S, HERE))
    b = NodeAddress(B, await store.register_node(B, LEASE_S, THERE))
    c = NodeAddress(C, await store.register_node(C, LEASE_S, HERE))
    (d,) = await started(store, D)
    assert [row.journal for row in await store.nodes()] == [HERE, THERE, HERE, ""]
    await store.close_estate(a)
    assert await store.estates() == [], "none is over, and none can be settled before it is"
    await store.retire_node(c, all_stored=False)
    await store.bury(b)
    await store.bury(a)
    await store.bury(d)
    assert await store.estates() == [Estate(a, HERE), Estate(b, THERE), Estate(c, HERE)]
    await store.close_estate(b)
    await store.close_estate(b)
    assert await store.estates() == [Estate(a, HERE), Estate(c, HERE)]
    await store.register_node(C, LEASE_S, THERE)
    assert await store.estates() == [Estate(a, HERE), Estate(c, HERE)], "the next run of its name changes nothing"


async def test_a_clean_stop_leaves_nothing(store: Store) -> None:
    a = NodeAddress(A, await store.register_node(A, LEASE_S, HERE))
    b, c = await started(store, B, C)
    await store.evict([a], [b, c])
    await store.retire_node(a)
    assert (await states(store), await store.estates()) == ({A: "left", B: "up", C: "up"}, [])
    await store.retire_node(a, all_stored=False)
    assert await store.estates() == []


async def test_a_dead_owner_keeps_what_is_in_a_journal_that_cannot_be_read(pair: Pair) -> None:
    await pair.own_a()
    await pair.b.bury(pair.on_a)
    assert await pair.try_b(journals=()) == Elsewhere(pair.on_a)
    assert await pair.try_b(journals=(THERE,)) == Elsewhere(pair.on_a)
    taken = await pair.try_b(journals=(THERE, HERE))
    assert isinstance(taken, Owned)
    assert taken.epoch == 2


async def test_the_dead_give_everything_up_where_no_journal_matters(pair: Pair) -> None:
    for key in ("one", "two"):
        await pair.own_a(key)
    await pair.a.retire_node(pair.on_a, all_stored=False)
    assert await pair.try_b("one", journals=()) == Elsewhere(pair.on_a)
    assert isinstance(await pair.try_b("one"), Owned)
    await pair.b.close_estate(pair.on_a)
    assert isinstance(await pair.try_b("two", journals=()), Owned)


async def test_a_live_owner_keeps_its_entity_whatever_its_journal(pair: Pair) -> None:
    await pair.own_a()
    assert await pair.try_b(journals=(HERE,)) == Elsewhere(pair.on_a)


async def test_only_what_was_given_up_in_order_is_clean(pair: Pair) -> None:
    held = await pair.own_a("released")
    assert held.clean, "new"
    await pair.a.release(pair.kind, [(pair.id("released"), held.epoch)])
    for key in ("dead", "mine"):
        assert (await pair.own_a(key)).clean
    assert not (await pair.own_a("mine")).clean
    await pair.a.bury(pair.on_a)
    results = await pair.b.claim(pair.kind, pair.claims("dead", "mine", "new", "released"), pair.on_b)
    clean = {key: result.clean for key, result in results.items() if isinstance(result, Owned)}
    assert clean == {
        pair.id("dead"): False,
        pair.id("mine"): False,
        pair.id("new"): True,
        pair.id("released"): True,
    }


# ---- moves ----


async def move(pair: Pair, held: Owned, key: str = "one", n: int | None = None, **more: Any) -> str:
    """Move `key` from a to b, its state `n` as version `more['version']`."""
    state = None if n is None else pair.state(n)
    one = EntityMove(pair.id(key), held.epoch, more.pop("version", 0), more.pop("to", pair.on_b), state, **more)
    return (await pair.a.migrate(pair.kind, [one]))[one.id]


async def test_a_move_hands_on_ownership_with_the_newest_state(pair: Pair) -> None:
    held = await pair.own_a()
    assert await pair.write(pair.a, held.epoch, 3, 30) == "written"
    assert await move(pair, held, n=40, version=4) == "moved"
    assert await pair.stored() == Stored(Epoch(2), 4, pair.state(40))
    assert await pair.write(pair.a, held.epoch, 5, 50) == "fenced"
    assert await pair.write(pair.b, Epoch(2), 5, 55) == "written", "the target owns it without a claim"
    assert (await pair.a.claim(pair.kind, pair.claims("one"), pair.on_a))[pair.id("one")] == Elsewhere(pair.on_b)


async def test_a_move_without_a_state_leaves_what_is_stored(pair: Pair) -> None:
    held = await pair.own_a()
    await pair.write(pair.a, held.epoch, 3, 30)
    assert await move(pair, held, version=3) == "moved"
    assert await pair.stored() == Stored(held.epoch, 3, pair.state(30))
    assert await pair.write(pair.a, held.epoch, 4, 40) == "fenced"


async def test_a_move_never_stores_an_older_state(pair: Pair) -> None:
    held = await pair.own_a()
    await pair.write(pair.a, held.epoch, 3, 30)
    assert await move(pair, held, n=99, version=3) == "moved"
    assert await pair.stored() == Stored(held.epoch, 3, pair.state(30))


async def test_the_new_owners_claim_succeeds_whatever_its_token(pair: Pair) -> None:
    held = await owned(pair.a, pair.kind, Claim(pair.id("one"), 1_000), pair.on_a)
    assert await move(pair, held, n=10, version=1) == "moved"
    again = await owned(pair.b, pair.kind, Claim(pair.id("one"), 1), pair.on_b)
    assert again == Owned(Epoch(3), Epoch(2), 1, pair.state(10), clean=False)
    assert await pair.write(pair.b, again.epoch, 2, 20) == "written"


async def test_an_older_claim_of_the_new_owner_that_comes_late_is_void(pair: Pair) -> None:
    held = await pair.own_a()
    one = EntityMove(pair.id("one"), held.epoch, 1, pair.on_b, pair.state(10), token=7)
    assert await pair.a.migrate(pair.kind, [one]) == {one.id: "moved"}
    for late in (3, 6):
        await pair.b.claim(pair.kind, [Claim(one.id, late)], pair.on_b)
    assert await pair.write(pair.b, Epoch(2), 2, 20) == "written", "the epoch of the move is the newest yet"
    assert (await owned(pair.b, pair.kind, Claim(one.id, 8), pair.on_b)).epoch == 3


async def test_a_repeated_move_is_moved_until_the_target_claims(pair: Pair) -> None:
    held = await pair.own_a()
    for _ in range(2):
        assert await move(pair, held, n=10, version=1) == "moved"
    await pair.own_b()
    assert await move(pair, held, n=10, version=1) == "fenced"
    assert await pair.stored() == Stored(Epoch(2), 1, pair.state(10))


async def test_my_own_newer_claim_voids_a_late_move(pair: Pair) -> None:
    held = await pair.own_a()
    again = await pair.own_a()
    assert await move(pair, held, n=10, version=1) == "fenced"
    assert await pair.stored() is None
    assert await pair.write(pair.a, again.epoch, 1, 11) == "written"


async def test_entities_of_others_are_not_moved(pair: Pair) -> None:
    held = await pair.own_a()
    await pair.a.release(pair.kind, [(pair.id("one"), held.epoch)])
    assert await move(pair, held) == "fenced"
    assert await move(pair, held, "nobody") == "fenced"
    assert (await pair.own_b()).epoch == 2


async def test_a_move_needs_a_target_that_is_up(pair: Pair) -> None:
    held = await pair.own_a()
    (third,) = await started(pair.b, C)
    assert await move(pair, held, to=NOBODY) == "fenced"
    assert await pair.a.evict([pair.on_b], [pair.on_a, third]) == [pair.on_b]
    assert await move(pair, held) == "fenced"
    await pair.b.retire_node(pair.on_b)
    assert await move(pair, held, n=10, version=1) == "fenced"
    assert await pair.write(pair.a, held.epoch, 1, 11) == "written", "it is still mine"
    assert await move(pair, held, to=third) == "moved"


async def test_a_dead_target_leaves_it_to_whoever_claims_it(pair: Pair) -> None:
    held = await pair.own_a()
    assert await move(pair, held, n=10, version=1) == "moved"
    await pair.a.bury(pair.on_b)
    taken = await pair.own_a()
    assert taken == Owned(Epoch(3), Epoch(2), 1, pair.state(10), clean=False)


async def test_each_move_of_a_batch_gets_its_own_answer(pair: Pair) -> None:
    (third,) = await started(pair.b, C)
    held = {key: await pair.own_a(key) for key in ("a", "b", "c", "d")}
    await pair.own_a("b")
    moves = [
        EntityMove(pair.id("a"), held["a"].epoch, 1, pair.on_b, pair.state(1)),
        EntityMove(pair.id("b"), held["b"].epoch, 1, pair.on_b, pair.state(2)),
        EntityMove(pair.id("c"), held["c"].epoch, 0, third),
        EntityMove(pair.id("d"), held["d"].epoch, 1, NOBODY, pair.state(4)),
    ]
    results = await pair.a.migrate(pair.kind, moves)
    assert list(results.items()) == [
        (pair.id("a"), "moved"),
        (pair.id("b"), "fenced"),
        (pair.id("c"), "moved"),
        (pair.id("d"), "fenced"),
    ]
    assert list(await pair.b.read(pair.kind, [one.id for one in moves])) == [pair.id("a")]
    assert await pair.try_b("c") == Elsewhere(third)
    assert await pair.a.migrate(pair.kind, []) == {}


async def test_a_log_moves_only_when_it_is_stored_to_its_end(database: Any) -> None:
    tally = actor_id("tally", "t")
    async with database.connect() as (store, logs):
        a, b = await started(store, A, B)
        epoch = (await owned(store, "tally", Claim(tally, 1), a)).epoch
        await logs.append("tally", [Append(tally, epoch, 1, 3, b"", b"h3", b"d")])
        assert await store.migrate("tally", [EntityMove(tally, epoch, 5, b, next_seq=6)]) == {tally: "fenced"}
        assert await store.migrate("tally", [EntityMove(tally, epoch, 3, b, next_seq=4)]) == {tally: "moved"}
        late = Append(tally, epoch, 4, 4, b"h3", b"h4", b"d")
        assert await logs.append("tally", [late]) == {tally: "fenced"}
        found = await owned(store, "tally", Claim(tally, 1), b)
        assert (found.epoch, found.next_seq, found.head) == (3, 4, b"h3")


async def test_a_kind_without_a_log_has_no_end_to_move_at(tmp_path: Path) -> None:
    player = actor_id("player", "p")
    for name in SQL_DATABASES:
        async with fresh(name, tmp_path).connect() as (store, _):
            a, b = await started(store, A, B)
            await owned(store, "player", Claim(player, 1), a)
            with pytest.raises(Internal):
                await store.migrate("player", [EntityMove(player, Epoch(1), 1, b, next_seq=4)])
            assert await store.migrate("player", [EntityMove(player, Epoch(1), 1, b)]) == {player: "moved"}


async def test_moves_claims_and_writes_at_once_neither_deadlock_nor_double(pair: Pair) -> None:
    """Both nodes claim, write and send away whatever they get; every epoch has one owner."""
    keys = [f"k{n:02}" for n in range(30)]
    owners: dict[tuple[ActorId, int], NodeAddress] = {}

    def note(id: ActorId, epoch: int, owner: NodeAddress) -> None:
        assert owners.setdefault((id, epoch), owner) == owner

    async def work(store: Store, me: NodeAddress, other: NodeAddress, start: int) -> None:
        for step in range(8):
            some = sorted(keys[(start + step * 7) % 30 :] + keys[: (start + step * 3) % 30])
            results = await store.claim(pair.kind, pair.claims(*dict.fromkeys(some)), me)
            held = [(id, result) for id, result in results.items() if isinstance(result, Owned)]
            moves = []
            for n, (id, result) in enumerate(held):
                note(id, result.epoch, me)
                version = result.state_version + 1
                moves.append(EntityMove(id, result.epoch, version, other, pair.state(version) if n % 2 else None))
            for id, outcome in (await store.migrate(pair.kind, moves)).items():
                if outcome == "moved":
                    note(id, dict(held)[id].epoch + 1, other)

    await asyncio.gather(
        *(work(pair.a, pair.on_a, pair.on_b, n) for n in (0, 10)), work(pair.b, pair.on_b, pair.on_a, 5)
    )
    for found in (await pair.b.read(pair.kind, [pair.id(key) for key in keys])).values():
        assert found.state == pair.state(found.state_version), "every version that was written is whole"


# ---- live matches that nobody owns ----


async def test_a_match_that_is_not_over_is_an_orphan_once_its_owner_is_gone(database: Any) -> None:
    ids = [actor_id("match", key) for key in ("claimed", "ended", "fresh", "live", "released", "theirs", "untold")]
    _, ended, fresh_one, live, released, theirs, untold = ids
    async with database.connect() as (store, logs):
        a, b, c = await started(store, A, B, C)
        held = await store.claim("match", [Claim(id, 1) for id in ids if id != theirs], a)
        await store.claim("match", [Claim(theirs, 1)], b)
        assert len(held) == 6
        lobby, over = MatchState(host="h", created_wall_ms=1), MatchState(host="h", phase="ended", created_wall_ms=1)
        projections = {ended: over, fresh_one: None, live: lobby, released: lobby, theirs: lobby, untold: over}
        batch = [Append(id, Epoch(1), 1, 1, b"", b"h", b"d", state) for id, state in projections.items()]
        assert set((await logs.append("match", batch)).values()) == {"written"}
        await store.release("match", [(ended, Epoch(1)), (released, Epoch(1))])
        assert await store.orphans("match", 10) == [released]
        await store.evict([a], [b, c])
        assert await store.orphans("match", 10) == [released], "an evicting owner has it yet"
        await store.bury(a)
        orphans = [fresh_one, live, released, untold]
        assert await store.orphans("match", 10) == orphans, "neither what is over nor what never began"
        assert await store.orphans("match", 2) == orphans[:2]
        assert await store.orphans("match", 2, orphans[1]) == orphans[2:]
        assert await store.orphans("match", 2, orphans[3]) == []
        taken = await store.claim("match", [Claim(id, 1) for id in orphans], b)
        assert all(isinstance(result, Owned) for result in taken.values())
        assert await store.orphans("match", 10) == []
        await store.retire_node(b)
        assert await store.orphans("match", 10) == [fresh_one, live, released, theirs, untold]


async def test_kinds_that_do_not_live_by_themselves_have_no_orphans(pair: Pair) -> None:
    held = await pair.own_a()
    await pair.write(pair.a, held.epoch, 1, 1)
    await pair.a.release(pair.kind, [(pair.id("one"), held.epoch)])
    assert await pair.a.orphans(pair.kind, 10) == []
    assert await pair.a.orphans("player", 10) == []
    with pytest.raises(Internal):
        await pair.a.orphans("ghost", 10)


# ---- rows with open facts ----


async def test_an_actor_with_open_facts_is_an_orphan_once_its_owner_is_gone(database: Any) -> None:
    ids = [actor_id("wallet", key) for key in ("clear", "held", "owing", "paid")]
    clear, held, owing, paid = ids
    async with database.connect() as (store, _):
        a, b = await started(store, A, B)
        await store.claim("wallet", [Claim(id, 1) for id in ids], a)
        debts = {clear: 5, held: -5, owing: -5, paid: -5}
        changes = [Change(id, Epoch(1), 1, Wallet(coins)) for id, coins in debts.items()]
        assert set((await store.write("wallet", changes)).values()) == {"written"}
        await store.write("wallet", [Change(paid, Epoch(1), 2, Wallet(0))])
        assert await store.orphans("wallet", 10) == [], "their owner has them"
        await store.release("wallet", [(id, Epoch(1)) for id in ids if id != held])
        assert await store.orphans("wallet", 10) == [owing]
        moved = EntityMove(held, Epoch(1), 2, b, Wallet(-7))
        assert await store.migrate("wallet", [moved]) == {held: "moved"}
        await store.bury(b)
        assert await store.orphans("wallet", 10) == [held, owing]
        assert await store.orphans("wallet", 10, held) == [owing]
        found = await store.claim("wallet", [Claim(id, 2) for id in ids], a)
        assert {id: result.open_facts for id, result in found.items() if isinstance(result, Owned)} == {
            clear: False, held: True, owing: True, paid: False
        }  # fmt: skip


async def test_a_logged_actor_says_by_its_row_that_all_is_told(database: Any) -> None:
    ids = [actor_id("tally", key) for key in ("clear", "told", "untold")]
    clear, told, untold = ids
    async with database.connect() as (store, logs):
        (a,) = await started(store, A)
        await store.claim("tally", [Claim(id, 1) for id in ids], a)
        states = {clear: Tally(1), told: Tally(-1), untold: Tally(-1)}
        batch = [Append(id, Epoch(1), 1, 1, b"", b"h", b"d", state) for id, state in states.items()]
        assert set((await logs.append("tally", batch)).values()) == {"written"}
        await store.release("tally", [(id, Epoch(9)) for id in ids], {untold})
        await store.release("tally", [(id, Epoch(1)) for id in ids], {clear, told})
        assert await store.orphans("tally", 10) == [untold], "and a release under another epoch says nothing"


# ---- reminders ----

FAR: Final = 1_700_000_000_000


async def kept(store: Store) -> list[Reminder]:
    return await store.due_reminders(2 * FAR, 100)


async def epoch_of(store: Store, identity: ActorId, me: NodeAddress, token: int = 1) -> Epoch:
    return (await owned(store, kind_of(identity), Claim(identity, token), me)).epoch


async def test_reminders_come_in_order_and_in_parts(store: Store) -> None:
    (me,) = await started(store, A)

    async def reminder(kind: str, key: str, name: str, due_ms: int, number: int) -> Reminder:
        return Reminder(actor_id(kind, key), name, due_ms, await epoch_of(store, actor_id(kind, key), me), number)

    due = [
        await reminder("wallet", "z", "early", 1_000, 6),
        await reminder("match", "m", "a", 2_000, 5),
        await reminder("player", "P", "a", 2_000, 4),
        await reminder("player", "a", "a", 2_000, 2**62),
        Reminder(actor_id("player", "a"), "b", 2_000, Epoch(1), 1),
        await reminder("tally", "t", "a", FAR, 1),
    ]
    later = Reminder(actor_id("player", "a"), "late", FAR + 1, Epoch(1), 7)
    for one in [later, *reversed(due)]:
        assert await store.set_reminder(one)
    assert await store.due_reminders(FAR, 100) == due
    assert await store.due_reminders(1_999, 100) == due[:1]
    assert await store.due_reminders(999, 100) == []
    seen: list[Reminder] = []
    while some := await store.due_reminders(FAR, 2, seen[-1] if seen else None):
        assert len(some) <= 2
        seen += some
    assert seen == due


@pytest.mark.parametrize("kind", ["wallet", "tally", "player", "match"])
async def test_only_the_owner_sets_and_takes_back_a_reminder(store: Store, kind: str) -> None:
    a, b = await started(store, A, B)
    id = actor_id(kind, "p")
    assert not await store.set_reminder(Reminder(id, "ring", 1)), "nobody has ever had it"
    assert not await store.unset_reminder(Reminder(id, "ring", 1))
    first = Reminder(id, "ring", 1_000, await epoch_of(store, id, a), 3)
    other = Reminder(id, "other", 1_000, first.epoch, 4)
    for one in (first, other):
        assert await store.set_reminder(one)
        assert await store.set_reminder(one), "the same again changes nothing"
    assert await kept(store) == [other, first]
    await store.bury(a)
    second = await epoch_of(store, id, b)
    assert second == first.epoch + 1
    for wrong in (first.epoch, Epoch(second + 1), Epoch(0)):
        late = replace(first, due_ms=5, epoch=wrong, number=99)
        assert not await store.set_reminder(late)
        assert not await store.set_reminder(replace(late, name="new"))
        assert not await store.unset_reminder(late)
        assert await kept(store) == [other, first]
    mine = Reminder(id, "ring", 2_000, second, 1)  # numbers begin anew with each activation
    assert await store.set_reminder(mine)
    assert await kept(store) == [other, mine]
    assert not await store.unset_reminder(replace(first, number=99))
    assert await store.unset_reminder(replace(mine, name="other", number=2))
    assert await kept(store) == [mine]
    assert await store.unset_reminder(replace(mine, due_ms=0, number=3))
    assert await store.unset_reminder(replace(mine, due_ms=0, number=4)), "there is none"
    assert await kept(store) == []


async def test_a_released_or_moved_actor_is_somebody_elses(pair: Pair) -> None:
    one, two = pair.id("one"), pair.id("two")
    released, moved = await pair.own_a("one"), await pair.own_a("two")
    await pair.a.release("wallet", [(one, released.epoch)])
    await pair.a.migrate("wallet", [EntityMove(two, moved.epoch, 0, pair.on_b)])
    assert await pair.a.set_reminder(Reminder(one, "ring", 1, released.epoch, 1)), "nobody has it since"
    assert not await pair.a.set_reminder(Reminder(two, "ring", 1, moved.epoch, 1))
    assert await pair.b.set_reminder(Reminder(two, "ring", 2, Epoch(moved.epoch + 1), 1))
    await pair.own_b("one")
    assert not await pair.a.unset_reminder(Reminder(one, "ring", 0, released.epoch, 2))
    assert [(reminder.id, reminder.due_ms) for reminder in await kept(pair.b)] == [(one, 1), (two, 2)]


async def late_statements(store: Store, me: NodeAddress) -> None:
    """Whatever order the statements of one owner come in, those that were made last count."""
    id = actor_id("wallet", "one")
    mine = Reminder(id, "ring", 3_000, await epoch_of(store, id, me), 5)
    assert await store.set_reminder(mine)
    for number in (5, 4, 1, 0):
        late = replace(mine, due_ms=1_000, number=number)
        assert await store.set_reminder(late), "the owner itself: it is not fenced off"
        assert await store.unset_reminder(late)
        assert await kept(store) == [mine], f"{number} was made before"
    newer = replace(mine, due_ms=2_000, number=6)
    assert await store.set_reminder(newer)
    assert await kept(store) == [newer]
    again = replace(newer, number=1, epoch=await epoch_of(store, id, me, token=2))
    assert again.epoch > newer.epoch
    assert await store.set_reminder(again)
    assert await kept(store) == [again], "an epoch counts more than any number"


async def late_statements_of_a_former_owner(store: Store, a: NodeAddress, b: NodeAddress) -> None:
    """They are refused, where there is a newer reminder and where there is none."""
    id = actor_id("wallet", "one")
    theirs = Reminder(id, "ring", 1_000, await epoch_of(store, id, a), 9)
    await store.bury(a)
    mine = Reminder(id, "ring", 3_000, await epoch_of(store, id, b), 1)
    for expected in ([mine], []):
        assert await (store.set_reminder(mine) if expected else store.unset_reminder(replace(mine, number=2)))
        assert not await store.unset_reminder(theirs)
        assert not await store.set_reminder(theirs)
        assert await kept(store) == expected


async def test_late_statements_of_the_owner(store: Store) -> None:
    (me,) = await started(store, A)
    await late_statements(store, me)


async def test_late_statements_of_a_former_owner(store: Store) -> None:
    await late_statements_of_a_former_owner(store, *await started(store, A, B))


@pytest.mark.parametrize("missing", ["", "order", "fence"])
async def test_without_one_of_the_conditions_that_is_seen(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def store() -> MemoryStore:
        return MemoryStore(MemoryDatabase(SystemClock()), STATE_TYPES)

    if missing == "order":
        monkeypatch.setattr("server.storage.memory._is_older", lambda kept, than: True)
    elif missing == "fence":
        monkeypatch.setattr(MemoryStore, "_is_at", lambda *_: True)
    of_owner, of_former = store(), store()
    with pytest.raises(AssertionError) if missing == "order" else nullcontext():
        await late_statements(of_owner, *await started(of_owner, A))
    with pytest.raises(AssertionError) if missing == "fence" else nullcontext():
        await late_statements_of_a_former_owner(of_former, *await started(of_former, A, B))


async def test_exactly_what_was_delivered_is_dropped(pair: Pair) -> None:
    epoch = (await pair.own_a()).epoch
    read = Reminder(pair.id("one"), "ring", 1_000, epoch, 1)
    other = replace(read, name="other")
    for now in (replace(read, number=2), replace(read, due_ms=5_000, number=3)):
        for one in (read, other, now):
            assert await pair.a.set_reminder(one)
        await pair.b.drop_reminder(read)
        await pair.b.drop_reminder(replace(now, epoch=Epoch(0)))
        assert await kept(pair.b) == [other, now], "it was set since"
        await pair.b.drop_reminder(now)  # by any node
        await pair.b.drop_reminder(now)
        assert await kept(pair.b) == [other]
    await pair.b.drop_reminder(Reminder(actor_id("toad", "x"), "hop", 1))


async def test_a_kind_that_was_not_named_has_no_reminders(store: Store) -> None:
    for method in (store.set_reminder, store.unset_reminder):
        with pytest.raises(Internal):
            await method(Reminder(actor_id("toad", "x"), "hop", 1, Epoch(1), 1))


async def waiting(connection: Any, count: int) -> bool:
    """Whether so many statements in the database wait for a lock."""
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    here = "datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await connection.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {here}") == count)


@pytest.mark.parametrize("method", ["set", "unset"])
@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK"])
async def test_postgres_waits_for_a_claim_that_is_under_way(tmp_path: Path, method: str, ends: str) -> None:
    database = fresh("postgres", tmp_path)
    other = await asyncpg.connect(database.url)
    async with database.connect() as (store, _):
        (me,) = await started(store, A)
        id = actor_id("player", "p")
        mine = Reminder(id, "ring", 1_000, await epoch_of(store, id, me), 1)
        assert await store.set_reminder(mine)
        await other.execute("BEGIN")
        await other.execute("UPDATE players SET epoch = epoch + 1 WHERE player_id = 'p'")
        newer = replace(mine, due_ms=2_000, number=2)
        statement = asyncio.ensure_future(store.set_reminder(newer) if method == "set" else store.unset_reminder(newer))
        await until(lambda: waiting(other, 1))
        assert not statement.done()
        await other.execute(ends)
        assert await statement == (ends == "ROLLBACK")
        expected = [mine] if ends == "COMMIT" else [newer] if method == "set" else []
        assert await kept(store) == expected
        await other.close()


async def test_postgres_makes_a_claim_wait_for_a_reminder_that_is_under_way(tmp_path: Path) -> None:
    """A statement under way is stopped at the reminder's own row, after it has compared the epoch."""
    database = fresh("postgres", tmp_path)
    other = await asyncpg.connect(database.url)
    async with database.connect() as (store, _):
        a, b = await started(store, A, B)
        id = actor_id("wallet", "one")
        mine = Reminder(id, "ring", 1_000, await epoch_of(store, id, a), 1)
        assert await store.set_reminder(mine)
        await other.execute("BEGIN")
        await other.execute("UPDATE reminders SET due_ms = due_ms")
        statement = asyncio.ensure_future(store.set_reminder(replace(mine, due_ms=2_000, number=2)))
        await until(lambda: waiting(other, 1))
        await store.bury(a)
        claim = asyncio.ensure_future(epoch_of(store, id, b))
        await until(lambda: waiting(other, 2))
        assert not claim.done()
        await other.execute("COMMIT")
        assert await statement
        assert await claim == mine.epoch + 1
        assert [one.due_ms for one in await kept(store)] == [2_000]
        await other.close()
