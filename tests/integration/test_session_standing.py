"""Logins that the application's judge of standings refuses: hosts and services at their hello, everybody at a new
token; and sessions that an act of moderation ends, in whatever role their subject has them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from game.app import App as Game
from game.moderation import rules
from game.moderation.state import Order
from game.player.messages import ProfileGet
from game.player.state import PlayerState
from server.actors.actor import Actor
from server.actors.app import App, StandingCheck
from server.errors import BadSetting
from server.ids import actor_id
from server.sessions.session import Session
from server.sessions.tokens import issue
from server.wire.messages import CloseCode, Heartbeat, TokenRenew
from tests.support.gateways import KEY, GatewayNode, MemoryClient, Nothing, World, gateways
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time
NODES = ("node-1", "node-2")


@asynccontextmanager
async def playing() -> AsyncIterator[World]:
    """Two nodes with the game, that store as they go."""
    async with gateways(NODES, app=Game, store={"flush_interval_s": 0.02}) as world:
        for node in world.nodes.values():
            node.system.supervisor.spawn(node.system.write_behind.run(), "write-behind")
        yield world


async def act(world: World, subject: str, name: Any, **fields: Any) -> Any:
    """An operator's act."""
    system = world.nodes["node-1"].system
    method = "lift" if name in ("unban", "unmute") else "order"
    return await system.ask(actor_id("standing", subject), method, (Order(name, "admin", "admin", **fields),))


def token(subject: str, role: str, ago_s: float = 0.0) -> str:
    return issue(KEY, subject, role, 3_600.0, LoopClock.wall_ms() - round(ago_s * 1000))


def mirrors_ban(world: World, subject: str = "ann") -> bool:
    """Whether the player has stored that it is banned."""
    row = world.cluster.database.entities.get(actor_id("player", subject))
    if row is None or row.state is None:
        return False
    return msgspec.msgpack.decode(row.state, type=PlayerState).banned_until_ms > 0


async def hello(world: World, node: str, subject: str, role: str, ago_s: float = 0.0) -> tuple[MemoryClient, list[Any]]:
    client = world.client(node, subject, role)
    return client, await client.hello(redirects=False, token=token(subject, role, ago_s))


async def closed_with(client: MemoryClient) -> tuple[int, str]:
    await client.closed()
    assert client.end.closed is not None
    return client.end.closed.code, client.end.closed.reason


@pytest.mark.parametrize("role", ["player", "host", "service"])
async def test_a_banned_subject_is_told_until_when_and_why(role: str) -> None:
    async with playing() as world:
        await act(world, "ann", "ban", reason="cheats", for_ms=60_000)
        await until(lambda: mirrors_ban(world))
        for node in NODES:
            client, answer = await hello(world, node, "ann", role)
            assert answer[0] == "error" and answer[2:4] == ["banned", "banned: cheats"]
            assert 0 < answer[4] <= 60_000
            assert (await closed_with(client))[0] == CloseCode.BAD_TOKEN
        await act(world, "ann", "unban")
        await until(lambda: not mirrors_ban(world))
        assert (await hello(world, "node-2", "ann", role))[1][0] == "welcome"


@pytest.mark.parametrize("role", ["player", "host", "service"])
async def test_a_revoked_token_is_no_good_for_a_renewal_and_the_session_goes_on_with_a_good_one(role: str) -> None:
    async with playing() as world:
        client, answer = await hello(world, "node-2", "ann", role)
        assert answer[0] == "welcome"
        await act(world, "ann", "revoke", before_ms=LoopClock.wall_ms() - 10_000)
        refused = await client.ask(TokenRenew, token("ann", role, ago_s=20.0))
        assert refused[0] == "error" and refused[2] == "revoked"
        assert (await client.ask(TokenRenew, token("ann", role)))[0] == "renewed"


async def test_an_application_without_a_judge_takes_everybody() -> None:
    async with gateways(NODES) as world:
        client, answer = await hello(world, "node-1", "svc", "service")
        assert answer[0] == "welcome"
        assert (await client.ask(TokenRenew, token("svc", "service")))[0] == "renewed"


async def test_a_host_is_asked_to_come_again_while_its_standing_cannot_be_read() -> None:
    async with playing() as world:
        for node in world.nodes.values():
            node.system.faults.always["claim"] = "refuse"
        client, answer = await hello(world, "node-1", "dedicated", "host")
        assert answer[0] == "error" and answer[2] not in ("banned", "revoked")
        assert (await closed_with(client))[0] == CloseCode.INTERNAL
        for node in world.nodes.values():
            node.system.faults.always.clear()
        assert (await hello(world, "node-1", "dedicated", "host"))[1][0] == "welcome"


def test_a_judge_must_be_callable_from_other_nodes() -> None:
    class Mute(Actor[Nothing]):
        kind = "mute"
        State = Nothing

        def judge(self, caller: Any, issued_ms: int) -> None: ...

    with pytest.raises(BadSetting):
        App(name="mutes", actors=(Mute,), standing=StandingCheck(Mute, Mute.judge))


def test_close_codes_of_moderation_are_the_applications() -> None:
    assert {rules.CLOSED_BANNED, rules.CLOSED_KICKED, rules.CLOSED_REVOKED} <= set(CloseCode.APPLICATION)


@pytest.mark.parametrize("role", ["player", "host", "service"])
@pytest.mark.parametrize(("name", "code"), [("ban", 4101), ("kick", 4103), ("revoke", 4102)])
async def test_an_act_ends_the_sessions_of_its_subject_in_every_role(role: str, name: str, code: int) -> None:
    async with playing() as world:
        client, answer = await hello(world, "node-2", "ann", role, ago_s=5.0)
        other, _ = await hello(world, "node-2", "bob", role)
        assert answer[0] == "welcome"
        await act(world, "ann", name, reason="for this")
        assert (await closed_with(client))[0] == code
        assert (await other.ask(ProfileGet, "ann"))[0] in ("profile", "error")
        left = [session.caller.subject for node in world.nodes.values() for session in _sessions(node)]
        assert left == ["bob"]


async def test_a_revocation_spares_who_has_a_newer_token() -> None:
    async with playing() as world:
        sessions = {ago_s: await hello(world, "node-2", "svc", "service", ago_s) for ago_s in (50.0, 5.0)}
        renewed, _ = await hello(world, "node-2", "svc", "service", 50.0)
        assert (await renewed.ask(TokenRenew, token("svc", "service")))[0] == "renewed"
        await act(world, "svc", "revoke", before_ms=LoopClock.wall_ms() - 20_000)
        assert (await closed_with(sessions[50.0][0]))[0] == rules.CLOSED_REVOKED
        for client in (sessions[5.0][0], renewed):
            assert (await client.ask(ProfileGet, "ann"))[0] in ("profile", "error")


async def test_a_host_of_a_node_that_nobody_saw_is_judged_when_it_is_seen_again() -> None:
    async with playing() as world:
        client, _ = await hello(world, "node-2", "dedicated", "host")
        world.tell("node-1", world.view("node-1"))
        await act(world, "dedicated", "ban", reason="unseen")
        assert len(_sessions(world.nodes["node-2"])) == 1
        world.show(*NODES)
        assert await closed_with(client) == (CloseCode.DISMISSED, "banned: unseen")


async def test_a_player_of_a_node_that_nobody_saw_is_out_with_its_next_heartbeat() -> None:
    async with playing() as world:
        system = world.nodes["node-1"].system
        subject = next(f"p{n}" for n in range(99) if system.owner(actor_id("player", f"p{n}")) == system.me)
        client, answer = await hello(world, "node-2", subject, "player")
        assert answer[0] == "welcome"
        world.tell("node-1", world.view("node-1"))
        await act(world, subject, "ban", reason="unseen")
        await until(lambda: mirrors_ban(world, subject))
        world.show(*NODES)
        await client.send(Heartbeat(0))
        assert await closed_with(client) == (CloseCode.DISMISSED, "banned: unseen")


def _sessions(node: GatewayNode) -> list[Session]:
    return list(node.gateway.table.sessions.values())
