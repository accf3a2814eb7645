"""Standings: the rules one by one, and the actor in a running system."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from game.app import App
from game.moderation import messages as m
from game.moderation import rules
from game.moderation.actor import Standing
from game.moderation.admin import ACTIONS, SubjectOrder, TimedOrder
from game.moderation.state import Order, StandingState
from game.player.state import PlayerState
from persistence.game.moderation import OrderAsked
from server.actors.actor import Caller, Stamp
from server.actors.app import Principal
from server.errors import BadInput, NotFound, Rejected, Unavailable
from server.ids import actor_id
from server.storage.memory import Tombstone
from server.storage.queries import MemoryQuery
from tests.support.engine import Cluster, TestSystem, cluster
from tests.support.waiting import until

NEW = StandingState()
ANN, ANN_PLAYER = actor_id("standing", "ann"), actor_id("player", "ann")
JUDGE = Caller("service", "judge", "s1")
NOW = 1_000_000


def given(act: Any, command: int = 1, **fields: Any) -> Order:
    return Order(act, "judge", "service", lineage="l", command=command, **fields)


def done(
    state: StandingState, order: Order, version: int = 0, stored: bool = True, wall_ms: int = NOW
) -> StandingState:
    number = version or (state.acts[-1].number + 1 if state.acts else 1)
    return rules.carried_out(state, order, Stamp(1, number), wall_ms, lambda _: stored)


# ---- the rules -------------------------------------------------------------------------------


def test_a_ban_has_an_end_or_none() -> None:
    assert done(NEW, given("ban", for_ms=500)).banned_until_ms == NOW + 500
    good = done(NEW, given("ban", reason="cheats"))
    assert (good.banned_until_ms, good.ban_reason) == (rules.FOR_GOOD, "cheats")
    assert done(good, given("ban", 2, for_ms=1)).banned_until_ms == NOW + 1, "another ban replaces it"


def test_each_act_is_kept_with_its_principal_and_changes_have_a_number() -> None:
    state = done(done(NEW, given("mute", for_ms=500)), given("kick", 2, reason="bye"))
    assert [(act.act, act.principal, act.number, act.at_ms) for act in state.acts] == [
        ("mute", "judge", 1, NOW),
        ("kick", "judge", 2, NOW),
    ]
    assert state.number == Stamp(1, 1), "a kick says nothing that the player must mirror"
    assert state.acts[0].until_ms == NOW + 500


@pytest.mark.parametrize(("act", "code"), [("unban", "not_banned"), ("unmute", "not_muted")])
def test_nothing_is_taken_back_that_is_not_in_force(act: Any, code: str) -> None:
    over = done(done(NEW, given("ban", for_ms=500)), given("mute", 2, for_ms=500))
    for state, wall_ms in ((NEW, NOW), (over, NOW + 500)):
        with pytest.raises(Rejected) as caught:
            done(state, given(act, 3), wall_ms=wall_ms)
        assert caught.value.code == code
    after = done(over, given(act, 3), wall_ms=NOW + 499)
    assert 0 in (after.banned_until_ms, after.muted_until_ms)


def test_a_revocation_never_goes_back() -> None:
    state = done(NEW, given("revoke"))
    assert state.tokens_from_ms == NOW
    assert done(state, given("revoke", 2, before_ms=500)).tokens_from_ms == NOW
    ahead = NOW + rules.AHEAD_MS
    assert done(state, given("revoke", 2, before_ms=ahead)).tokens_from_ms == ahead
    with pytest.raises(BadInput):
        done(state, given("revoke", 2, before_ms=ahead + 1))


def test_an_order_is_known_by_who_gave_it_and_its_command() -> None:
    state = done(NEW, given("kick"))
    assert rules.known(state, given("kick")) == 1
    assert rules.known(state, given("kick", 2)) is None
    assert rules.known(state, Order("kick", "other", "service", lineage="l", command=1)) is None
    unnamed = done(NEW, Order("kick", "admin", "admin"))
    assert rules.known(unnamed, Order("kick", "admin", "admin")) is None


def test_acts_are_forgotten_once_they_are_stored() -> None:
    state = NEW
    for command in range(1, rules.MAX_ACTS + 1):
        state = done(state, given("kick", command), stored=False)
    with pytest.raises(Unavailable):
        done(state, given("kick", 99), stored=False)
    after = done(state, given("kick", 99))
    assert (len(after.acts), after.forgotten) == (rules.MAX_ACTS, 1)
    assert rules.is_forgotten(after, given("kick")) and not rules.is_forgotten(state, given("kick"))


def test_bad_input_is_refused_where_it_enters() -> None:
    message = m.ModerationBan(1, "l", 1, "ann", "a reason", 5)
    for field, value in (("reason", "x" * 101), ("reason", "two\nlines"), ("subject", "a b"), ("for_ms", -1)):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(msgspec.to_builtins(msgspec.structs.replace(message, **{field: value})), m.ModerationBan)


# ---- the actor -------------------------------------------------------------------------------


def order_rows(states: Any, asked: OrderAsked) -> Any:
    """The memory twin of the query of an order: it knows what the test has stored by hand."""
    return STORED.get((asked.subject, asked.lineage, asked.command), [])


STORED: dict[tuple[str, str, int], list[dict[str, Any]]] = {}


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Cluster, TestSystem]]:
    """One node with the game, that stores as it goes."""
    queries = {"moderation_order": MemoryQuery(OrderAsked, order_rows)}
    async with cluster(app=App, queries=queries, store={"flush_interval_s": 0.02}) as world:
        system = world.systems["node-1"]
        system.supervisor.spawn(system.write_behind.run(), "write-behind")
        yield world, system


def player_of(world: Cluster) -> PlayerState:
    entity = world.database.entities.get(ANN_PLAYER)
    stored = entity.state if entity is not None else None
    return PlayerState() if stored is None else msgspec.msgpack.decode(stored, type=PlayerState)


def standing_of(world: Cluster) -> StandingState:
    return msgspec.msgpack.decode(world.database.entities[ANN].state or b"", type=StandingState)


@pytest.mark.virtual_time
async def test_an_answer_means_that_the_act_is_stored_and_the_player_comes_to_know() -> None:
    async with running() as (world, system):
        answer = await system.ask(ANN, "ban", (JUDGE, m.ModerationBan(7, "l", 1, "ann", "cheats", 60_000)))
        stored = standing_of(world)
        assert (answer.id, answer.subject, answer.act) == (7, "ann", 1)
        assert stored.banned_until_ms == answer.banned_until_ms > world.clock.wall_ms()
        assert [act.principal for act in stored.acts] == ["judge"]
        assert ("ann", rules.CLOSED_BANNED, "banned: cheats") in system.published.ends
        await until(lambda: player_of(world).banned_until_ms == stored.banned_until_ms)
        with pytest.raises(Rejected) as caught:
            await system.ask(ANN_PLAYER, "connected", (Caller("player", "ann", "s1"),))
        assert caught.value.code == "banned"
        await until(lambda: standing_of(world).told == stored.number)
        await system.ask(ANN, "unban", (JUDGE, m.ModerationUnban(8, "l", 2, "ann")))
        await until(lambda: not player_of(world).banned_until_ms)
        await system.ask(ANN_PLAYER, "connected", (Caller("player", "ann", "s1"),))


@pytest.mark.virtual_time
async def test_a_repeated_order_is_the_same_act() -> None:
    async with running() as (world, system):
        ban = m.ModerationBan(1, "l", 1, "ann")
        assert {(await system.ask(ANN, "ban", (JUDGE, ban))).act for _ in range(3)} == {1}
        await system.ask(ANN, "unban", (JUDGE, m.ModerationUnban(1, "l", 2, "ann")))
        ends = len(system.published.ends)
        again = await system.ask(ANN, "ban", (JUDGE, ban))
        assert (again.act, again.banned_until_ms) == (1, 0), "it was carried out, and taken back since"
        assert len(system.published.ends) == ends
        assert [act.act for act in standing_of(world).acts] == ["ban", "unban"]


@pytest.mark.virtual_time
async def test_the_store_is_asked_for_an_order_that_was_forgotten() -> None:
    async with running() as (world, system):
        for command in range(1, rules.MAX_ACTS + 2):
            await system.ask(ANN, "kick", (JUDGE, m.ModerationKick(1, "l", command, "ann")))
        STORED["ann", "l", 1] = [{"number": 1}]
        try:
            assert (await system.ask(ANN, "kick", (JUDGE, m.ModerationKick(1, "l", 1, "ann")))).act == 1
        finally:
            STORED.clear()
        assert standing_of(world).forgotten == 1


@pytest.mark.virtual_time
async def test_reading_a_standing_and_taking_back_make_none() -> None:
    async with running() as (world, system):
        clean = await system.ask(ANN, "get", (JUDGE, m.ModerationGet(3, "ann")))
        assert clean == m.StandingInfo(3, "ann", 0, "", 0, "", 0, 0)
        assert not await system.ask(ANN, "is_muted", ())
        await system.ask(ANN, "judge", (Caller("host", "ann", "s1"), 5))
        for method, message in (
            ("unban", m.ModerationUnban(1, "l", 1, "ann")),
            ("unmute", m.ModerationUnmute(1, "l", 1, "ann")),
        ):
            with pytest.raises(NotFound):
                await system.ask(ANN, method, (JUDGE, message))
        assert ANN not in world.database.entities


@pytest.mark.virtual_time
async def test_a_login_of_a_host_is_judged_by_the_standing() -> None:
    async with running() as (_, system):
        revoked = await system.ask(ANN, "revoke", (JUDGE, m.ModerationRevoke(1, "l", 1, "ann")))
        host = Caller("host", "ann", "s1")
        with pytest.raises(Rejected) as caught:
            await system.ask(ANN, "judge", (host, revoked.tokens_from_ms - 1))
        assert caught.value.code == "revoked"
        await system.ask(ANN, "judge", (host, revoked.tokens_from_ms))
        await system.ask(ANN, "mute", (JUDGE, m.ModerationMute(1, "l", 2, "ann")))
        assert await system.ask(ANN, "is_muted", ())
        await system.ask(ANN, "ban", (JUDGE, m.ModerationBan(1, "l", 3, "ann")))
        with pytest.raises(Rejected) as caught:
            await system.ask(ANN, "judge", (host, revoked.tokens_from_ms))
        assert (caught.value.code, caught.value.retry_after_s) == ("banned", None)


def test_moderation_is_for_services_alone() -> None:
    for request in m.REQUESTS:
        assert App.routes[request].roles == {"service"}, request


def test_standings_are_written_through() -> None:
    assert Standing.durability == "written_through"


@pytest.mark.parametrize("by", ["a service", "an operator"])
async def test_a_new_ban_takes_the_place_of_the_one_that_an_erased_name_is_kept_under(by: str) -> None:
    class Context:
        principal = Principal("op", "admin")

        @staticmethod
        async def ask(actor: Any, key: str, method: Any, *args: Any) -> Any:
            return await system.ask(actor_id(actor.kind, key), method.__name__, args)

    context: Any = Context()

    async def ordered(act: str) -> Any:
        if by == "an operator":
            body = TimedOrder("ann", "again") if act in ("ban", "mute") else SubjectOrder("ann", "again")
            return await ACTIONS[act].run(context, body)
        message = {"ban": m.ModerationBan, "mute": m.ModerationMute, "kick": m.ModerationKick}[act]
        return await system.ask(ANN, act, (JUDGE, message(1, "l", 1, "ann", "again")))

    async def login() -> None:
        await system.ask(ANN_PLAYER, "connected", (Caller("player", "ann", "s1"),))

    async with running() as (world, system):
        stone = world.database.tombstones["ann"] = Tombstone(barred=1, until_s=world.clock.wall_ms() / 1000 + 500)
        for act in ("mute", "kick"):
            with pytest.raises(Rejected, match="erased"):
                await ordered(act)
        with pytest.raises(Rejected, match="erased"):
            await login()
        await ordered("ban")
        await until(lambda: player_of(world).ban_reason == "again")
        stone.until_s = 0.0  # the ban of before is over
        with pytest.raises(Rejected, match="banned: again"):
            await login()
        assert not stone.barred
