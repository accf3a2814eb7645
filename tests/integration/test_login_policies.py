"""How many sessions a player has at a time, whatever node each client reached: the game's player judges."""

import asyncio
from functools import partial
from typing import Any

import jwt
import pytest
from msgspec.structs import replace

from game.app import App as Game
from game.messages import MatchAssigned
from game.player.actor import Player
from game.player.messages import PresenceGet, PresenceSet
from server.catalog.runs_over import LOOKS_S, PERIODS
from server.ids import actor_id
from server.sessions.tokens import own_rules
from server.settings import StoreSettings
from server.wire.messages import Close, CloseCode, Heartbeat
from tests.support.engine import key_owned_by
from tests.support.gateways import KEY, MemoryClient, World, gateways, token
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

NAMES = ("node-1", "node-2", "node-3")
TICK_S = 0.2
OVER_S = PERIODS * StoreSettings().lease_period_s + TICK_S


def nodes(policy: str = "newest_wins", **gateway: Any) -> Any:
    return gateways(NAMES, app=Game, gateway={"login_policy": policy, "resume_window_s": 5.0, **gateway})


def ann(world: World, home: str = "node-1") -> str:
    return key_owned_by(world.nodes["node-1"].system, Player, home)


def with_device(subject: str, kind: str) -> str:
    claims = jwt.decode(token(subject), options={"verify_signature": False})
    return jwt.encode({**claims, "device": kind}, KEY, "HS256")


async def login(world: World, node: str, subject: str, **fields: Any) -> MemoryClient:
    """A client that stays at the node that it reached, like all here."""
    client = world.client(node, subject)
    answer = await client.hello(redirects=False, **fields)
    assert answer[0] == "welcome", answer
    return client


async def refused(world: World, node: str, subject: str, **fields: Any) -> tuple[str, int]:
    client = world.client(node, subject)
    answer = await client.hello(redirects=False, **fields)
    assert answer[0] == "error", answer
    return answer[2], await client.closed()


def here(world: World, subject: str) -> list[str]:
    """The player's sessions on all nodes, by name."""
    tables = [node.gateway.table for node in world.nodes.values()]
    return sorted(session.caller.session for table in tables for session in table.of_player(subject))


def player(world: World, subject: str) -> Any:
    found = [node.system.find(actor_id("player", subject)) for node in world.nodes.values()]
    return next(activation.actor for activation in found if activation is not None)


def known(world: World, subject: str) -> list[str]:
    """The sessions that the player's actor knows."""
    return sorted(player(world, subject).sessions)


async def status(client: MemoryClient) -> Any:
    return (await client.ask(PresenceGet, client.subject))[3]


@pytest.mark.parametrize("second", NAMES)
async def test_the_newest_wins_at_whatever_node(second: str) -> None:
    async with nodes() as world:
        subject = ann(world)
        first = await login(world, "node-2", subject)
        later = await login(world, second, subject)
        assert await first.closed() == CloseCode.REPLACED
        assert later.welcome is not None
        await until(lambda: here(world, subject) == known(world, subject) == [later.welcome and later.welcome.session])
        assert (await later.ask(Heartbeat))[0] == "beat"
        assert await status(later) == "online"


async def test_the_first_wins_until_it_is_over() -> None:
    async with nodes("first_wins") as world:
        subject = ann(world)
        first = await login(world, "node-2", subject)
        for node in NAMES:
            assert await refused(world, node, subject) == ("occupied", CloseCode.OCCUPIED)
        assert (await first.ask(Heartbeat))[0] == "beat"
        await first.ask(Close)
        await first.closed()
        await until(lambda: not player(world, subject).sessions)
        await login(world, "node-3", subject)


async def test_the_newest_so_many_stay_on_one_node_too() -> None:
    async with nodes("allow:2") as world:
        subject = ann(world)
        clients = [await login(world, node, subject) for node in ("node-1", "node-1", "node-3", "node-1")]
        assert [await client.closed() for client in clients[:2]] == [CloseCode.REPLACED] * 2
        await until(lambda: len(here(world, subject)) == 2)
        left = sorted(client.welcome.session for client in clients[2:] if client.welcome is not None)
        assert here(world, subject) == known(world, subject) == left
        for client in clients[2:]:
            assert (await client.ask(Heartbeat))[0] == "beat"
        await clients[3].ask(Close)
        await until(lambda: here(world, subject) == left[1:] or here(world, subject) == left[:1])
        assert await status(clients[2]) == "online"


async def test_one_of_each_kind_of_device_stays() -> None:
    async with nodes("one_per_kind") as world:
        subject = ann(world)
        for node in world.nodes.values():
            node.gateway.use_token_rules(replace(own_rules(KEY), device_claim="device"))
        console = await login(world, "node-1", subject, token=with_device(subject, "console"))
        phone = await login(world, "node-2", subject, token=with_device(subject, "phone"))
        other = await login(world, "node-3", subject, token=with_device(subject, "console"), device="phone")
        assert await console.closed() == CloseCode.REPLACED
        for client in (phone, other):
            assert (await client.ask(Heartbeat))[0] == "beat"
        kinds = [said.kind for said in player(world, subject).devices.logins()]
        assert sorted(kinds) == ["console", "phone"], "the token's word counts, not the client's"


@pytest.mark.parametrize("believed", [False, True])
async def test_the_clients_word_for_its_device_counts_where_the_studio_says_so(believed: bool) -> None:
    async with nodes("one_per_kind", device_kind_from_hello=believed) as world:
        subject = ann(world)
        first = await login(world, "node-1", subject, device="console")
        await login(world, "node-2", subject, device="phone")
        if believed:
            assert (await first.ask(Heartbeat))[0] == "beat"
        else:
            assert await first.closed() == CloseCode.REPLACED


@pytest.mark.parametrize("policy", ["newest_wins", "first_wins"])
async def test_logins_that_race_at_two_nodes_leave_one(policy: str) -> None:
    async with nodes(policy) as world:
        subject = ann(world)
        clients = [world.client(node, subject) for node in NAMES]
        answers = await asyncio.gather(*(client.hello(redirects=False) for client in clients))
        await until(lambda: len(here(world, subject)) == 1)
        assert here(world, subject) == known(world, subject)
        (index,) = [
            number
            for number, client in enumerate(clients)
            if client.welcome is not None and client.welcome.session in here(world, subject)
        ]
        for number, client in enumerate(clients):
            if number != index:
                code = CloseCode.OCCUPIED if answers[number][0] == "error" else CloseCode.REPLACED
                assert await client.closed() == code
        assert (await clients[index].ask(Heartbeat))[0] == "beat"


async def forget(world: World, subject: str) -> None:
    """The player's activation is lost, as where its node dies."""
    for node in world.nodes.values():
        activation = node.system.find(actor_id("player", subject))
        if activation is not None:
            node.system.lost(activation, 0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_sessions_that_a_player_forgot_are_told_again_and_judged_again(order: tuple[int, int]) -> None:
    async with nodes("allow:2") as world:
        subject = ann(world)
        clients = [await login(world, "node-2", subject), await login(world, "node-3", subject)]
        await forget(world, subject)
        world.nodes["node-3"].gateway.kit.actors._policy = world.nodes["node-2"].gateway.kit.actors._policy = (  # type: ignore[attr-defined]
            "newest_wins"
        )
        for number in order:
            await clients[number].send(Heartbeat(0))
            await asyncio.sleep(TICK_S)
        assert await clients[0].closed() == CloseCode.REPLACED
        assert (await clients[1].ask(Heartbeat))[0] == "beat"
        assert clients[1].welcome is not None
        assert here(world, subject) == known(world, subject) == [clients[1].welcome.session]


async def test_a_request_of_a_session_that_its_player_forgot_is_asked_to_come_again() -> None:
    async with nodes() as world:
        subject = ann(world)
        client = await login(world, "node-2", subject)
        await forget(world, subject)
        assert (await client.ask(PresenceSet, "busy"))[2] == "unavailable"
        await asyncio.sleep(TICK_S)
        assert (await client.ask(PresenceSet, "busy"))[0] == "saved"
        assert await status(client) == "busy"


async def test_a_late_heartbeat_does_not_bring_back_a_session_that_is_over() -> None:
    async with nodes("allow:2") as world:
        subject = ann(world)
        gone, stays = await login(world, "node-2", subject), await login(world, "node-3", subject)
        session = world.nodes["node-2"].gateway.table.players[subject]
        await gone.ask(Close)
        await gone.closed()
        assert stays.welcome is not None
        await until(lambda: known(world, subject) == [stays.welcome and stays.welcome.session])
        late = partial(world.nodes["node-2"].system.ask, actor_id("player", subject), "beat")
        with pytest.raises(Exception, match="not known here, or is over"):
            await late((session.caller, None))
        assert known(world, subject) == [stays.welcome.session]


async def test_a_client_that_cannot_resume_takes_the_place_of_its_own_session() -> None:
    async with nodes("first_wins") as world:
        subject = ann(world)
        first = await login(world, "node-2", subject)
        assert first.welcome is not None
        first.end.half_open()
        again = await login(world, "node-3", subject, resume=first.welcome.resume, ack=99)
        assert again.welcome is not None and not again.welcome.recovered
        await until(lambda: here(world, subject) == known(world, subject) == [again.welcome and again.welcome.session])


@pytest.mark.parametrize(("back", "within_s"), [(False, OVER_S), (True, TICK_S)])
async def test_devices_of_a_node_that_died_are_gone_soon_while_another_one_beats(back: bool, within_s: float) -> None:
    """Before, the player's shared count of heartbeats hid it, for ever."""
    async with nodes("allow:2") as world:
        subject = ann(world)
        stays, lost = await login(world, "node-2", subject), await login(world, "node-3", subject)
        assert stays.welcome is not None and lost.welcome is not None
        await kill(world, "node-3", back)
        await stays.ask(Heartbeat)
        await asyncio.sleep(within_s + TICK_S)
        assert known(world, subject) == [stays.welcome.session]
        assert await status(stays) == "online"


async def kill(world: World, name: str, back: bool) -> None:
    """Node `name` is gone from the others' view, and is another run if it comes back."""
    others = [other for other in world.nodes if other != name]
    if back:
        system = world.nodes[name].system
        earlier = system.me
        system.current.me = earlier._replace(incarnation=earlier.incarnation + 1)  # type: ignore[arg-type]
        view = world.view(*world.nodes)
        for other in others:
            world.tell(other, view)
    else:
        world.show(*others)


async def test_a_player_whose_only_node_died_was_seen_last_when_it_was() -> None:
    async with nodes() as world:
        subject = ann(world)
        await login(world, "node-3", subject)
        actor = player(world, subject)
        seen_ms = actor.state.last_seen_ms
        world.show("node-1", "node-2")
        await asyncio.sleep(OVER_S + LOOKS_S[1])
        assert (actor.state.status, actor.state.last_seen_ms, actor.sessions) == ("offline", seen_ms, ())


async def test_a_session_at_a_node_that_was_only_cut_off_is_told_again() -> None:
    async with nodes("allow:2") as world:
        subject = ann(world)
        client = await login(world, "node-3", subject)
        world.show("node-1", "node-2")
        await until(lambda: not player(world, subject).sessions, OVER_S + LOOKS_S[1])
        world.show(*NAMES)
        await client.send(Heartbeat(0))
        await until(lambda: known(world, subject) == here(world, subject) != [])
        assert (await client.ask(Heartbeat))[0] == "beat"


async def test_a_push_reaches_each_of_a_players_sessions_on_a_node() -> None:
    async with nodes("allow:2") as world:
        subject = ann(world)
        clients = [await login(world, "node-1", subject) for _ in range(2)]
        world.nodes["node-1"].gateway.outlet.push(subject, MatchAssigned(0, "m1"))
        for client in clients:
            assert (await client.receive())[0] == "match.assigned"
