"""Friends' actors in a running system: commands, pushes, facts, and what the player's actor comes to know."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from game.app import App
from game.friends import messages as m
from game.friends.actor import Friends
from game.friends.rules import Limits
from game.messages import Saved
from game.moderation.rules import FOR_GOOD
from persistence.game.friends import Met
from server.actors.actor import Caller, Stamp
from server.actors.pictures import Relations
from server.errors import NotFound, Rejected
from server.ids import actor_id
from server.storage.queries import MemoryQuery
from tests.support.engine import TestSystem, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

FAST: dict[str, Any] = {"store": {"group_commit_s": 0.001, "flush_interval_s": 0.02}}
MET: list[dict[str, Any]] = [
    {"player": "bob", "match": "m2", "ended_ms": 20},
    {"player": "cyd", "match": "m2", "ended_ms": 20},
    {"player": "bob", "match": "m1", "ended_ms": 10},
]


@asynccontextmanager
async def running() -> AsyncIterator[TestSystem]:
    """A node with the game, where ann, bob and cyd are connected."""
    async with cluster(
        app=App, queries={"recent_players": MemoryQuery(Met, lambda _states, _given: MET)}, **FAST
    ) as world:
        system = world.systems["node-1"]
        system.supervisor.spawn(system.write_behind.run(), "write-behind")
        for name in ("ann", "bob", "cyd"):
            await connect(system, name)
        yield system


async def connect(system: TestSystem, name: str) -> None:
    await system.ask(actor_id("player", name), "connected", (Caller("player", name, "s"),))


class Client:
    """A player's client, as far as friends go."""

    def __init__(self, system: TestSystem, name: str) -> None:
        self.system, self.name, self.command = system, name, 0

    async def ask(self, message: Any) -> Any:
        route = App.routes[type(message)]
        caller = Caller("player", self.name, "s")
        return await self.system.ask(actor_id("friends", self.name), route.method.__name__, (caller, message))  # type: ignore[union-attr]

    async def do(self, cls: Any, other: str) -> Saved:
        self.command += 1
        answer = await self.ask(cls(1, "l", self.command, other))
        assert isinstance(answer, Saved)
        return answer

    async def entries(self) -> dict[str, str]:
        page = await self.ask(m.FriendsList(1))
        return {entry.player: entry.state for entry in page.friends}

    def changes(self) -> list[tuple[str, str]]:
        return [
            (push.player, push.state)
            for subject, push in self.system.published.pushes
            if subject == self.name and isinstance(push, m.FriendsChanged)
        ]


def clients(system: TestSystem) -> list[Client]:
    return [Client(system, name) for name in ("ann", "bob", "cyd")]


async def befriend(one: Client, other: Client) -> None:
    await one.do(m.FriendsInvite, other.name)
    await until(lambda: "inviting" in [state for _, state in other.changes()], 5.0)
    await other.do(m.FriendsAccept, one.name)
    await until(lambda: (other.name, "friend") in one.changes(), 5.0)


async def test_friends_are_made_and_both_are_told() -> None:
    async with running() as system:
        ann, bob, _ = clients(system)
        await befriend(ann, bob)
        assert await ann.entries() == {"bob": "friend"} and await bob.entries() == {"ann": "friend"}
        assert ann.changes() == [("bob", "invited"), ("bob", "friend")]
        assert bob.changes() == [("ann", "inviting"), ("ann", "friend")]


async def test_a_command_is_carried_out_once() -> None:
    """Repeated when the friendship has been ended meanwhile, it gives its answer and invites nobody."""
    async with running() as system:
        ann, _, _ = clients(system)
        invite = m.FriendsInvite(1, "l", 1, "bob")
        first = await ann.ask(invite)
        ann.command = 1
        await ann.do(m.FriendsRemove, "bob")
        again = await ann.ask(invite)
        assert again == first and await ann.entries() == {}


async def test_the_player_comes_to_know_the_number_of_its_lists() -> None:
    async with running() as system:
        ann, bob, cyd = clients(system)
        await befriend(ann, bob)
        await ann.do(m.FriendsBlock, "cyd")

        async def known() -> bool:
            for client, friends, hidden in ((ann, ["bob"], ["cyd"]), (bob, ["ann"], []), (cyd, [], ["ann"])):
                caller = Caller("node", "presence")
                relations = await system.ask(actor_id("friends", client.name), "relations", (caller,))
                player = system.find(actor_id("player", client.name))
                assert isinstance(relations, Relations) and player is not None
                told = (relations.friends, relations.hidden) == (friends, hidden)
                if not told or player.actor.state.relations != relations.number:
                    return False
            return True

        await until(known, 5.0)


async def test_relations_of_who_has_no_friends_make_no_row() -> None:
    async with running() as system:
        found = await system.ask(actor_id("friends", "zoe"), "relations", (Caller("node", "presence"),))
        assert found == Relations(0, [], []) and actor_id("friends", "zoe") not in system.node_store.database.entities


async def test_a_name_that_somebody_invents_makes_nothing() -> None:
    async with running() as system:
        ann, _, _ = clients(system)
        for cls in (m.FriendsInvite, m.FriendsBlock):
            with pytest.raises(NotFound):
                await ann.do(cls, "nobody")
        for kind in ("player", "friends"):
            assert actor_id(kind, "nobody") not in system.node_store.database.entities
        assert await ann.entries() == {}


async def test_a_player_does_not_befriend_itself() -> None:
    async with running() as system:
        ann, _, _ = clients(system)
        for cls in (m.FriendsInvite, m.FriendsBlock, m.FriendsRemove):
            with pytest.raises(Rejected) as refused:
                await ann.do(cls, "ann")
            assert refused.value.code == "self"


async def test_a_muted_player_invites_nobody() -> None:
    async with running() as system:
        ann, _, _ = clients(system)
        await system.ask(actor_id("player", "ann"), "standing", (Stamp(1, 1), 0, "", FOR_GOOD, 0))
        with pytest.raises(Rejected) as refused:
            await ann.do(m.FriendsInvite, "bob")
        assert refused.value.code == "muted"
        await ann.do(m.FriendsBlock, "bob")


async def test_an_invite_to_who_blocks_tells_its_sender_nothing() -> None:
    """The same answer, the same push and the same entry as of one that is not answered."""
    async with running() as system:
        ann, bob, cyd = clients(system)
        await bob.do(m.FriendsBlock, "ann")
        await until(lambda: system.find(actor_id("friends", "ann")) is not None, 5.0)
        assert ann.changes() == [], "a block is told to nobody"
        one, other = await ann.do(m.FriendsInvite, "bob"), await ann.do(m.FriendsInvite, "cyd")
        await until(lambda: cyd.changes() == [("ann", "inviting")], 5.0)
        assert one.entity == other.entity and ann.changes() == [("bob", "invited"), ("cyd", "invited")]
        assert await ann.entries() == {"bob": "invited", "cyd": "invited"}
        assert bob.changes() == [("ann", "blocked")] and await bob.entries() == {"ann": "blocked"}


async def test_an_invite_without_room_is_over_for_its_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Friends, "LIMITS", Limits(inviting=1))
    async with running() as system:
        ann, bob, cyd = clients(system)
        await ann.do(m.FriendsInvite, "cyd")
        await until(lambda: cyd.changes() == [("ann", "inviting")], 5.0)
        await bob.do(m.FriendsInvite, "cyd")
        await until(lambda: bob.changes() == [("cyd", "invited"), ("cyd", "none")], 5.0)
        assert await cyd.entries() == {"ann": "inviting"} and await bob.entries() == {}


async def test_players_met_lately_are_shown_once_and_without_those_who_block() -> None:
    async with running() as system:
        ann, _, cyd = clients(system)
        met = await ann.ask(m.FriendsRecent(1))
        assert [(it.player, it.match) for it in met.players] == [("bob", "m2"), ("cyd", "m2")]
        await cyd.do(m.FriendsBlock, "ann")

        async def hidden() -> bool:
            return [it.player for it in (await ann.ask(m.FriendsRecent(1))).players] == ["bob"]

        await until(hidden, 5.0)
        assert [it.player for it in (await ann.ask(m.FriendsRecent(1, 1))).players] == ["bob"]
