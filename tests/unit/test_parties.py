"""Parties as actors of a running cluster: words that are lost, nodes that die, members who come back."""

import asyncio
from typing import Any

import pytest

from game.app import App
from game.friends.messages import FriendsBlock, FriendsUnblock
from game.messages import MatchCreate, MatchOptions
from game.moderation.messages import ModerationMute
from game.party.messages import (
    PartyAssigned,
    PartyCreate,
    PartyDisband,
    PartyGet,
    PartyInvite,
    PartyInvited,
    PartyInvites,
    PartyJoin,
    PartyJoinCode,
    PartyKick,
    PartyLeave,
    PartyOver,
    PartyPlay,
    PartyPromote,
    PartyReady,
    PartyRecode,
)
from game.player.state import PlayerState
from server.actors.actor import Caller
from server.errors import Forbidden, NotFound, RateLimited, Rejected
from server.ids import actor_id
from tests.support.engine import Cluster, TestSystem, cluster
from tests.support.parties import QUERIES, Someone
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

SETTINGS: dict[str, Any] = {"store": {"group_commit_s": 0.001, "flush_interval_s": 0.05}}
HOST = Caller("host", "host", "h1")
JUDGE = Caller("service", "judge", "s1")


class World:
    """A cluster of two nodes and three players."""

    def __init__(self, world: Cluster) -> None:
        self.world = world
        for system in world.systems.values():
            system.supervisor.spawn(system.write_behind.run(), "write-behind")
        self.system: TestSystem = world.systems["node-1"]
        self.ann, self.bob, self.cyd = (Someone(self.system, name) for name in ("ann", "bob", "cyd"))

    async def party(self, *others: Someone, room: int = 4) -> str:
        """The name of a party that ann leads, and that others have joined."""
        for player in (self.ann, *others):
            await player.connect()
        made = await self.ann.do(PartyCreate, room)
        name = made.entity.partition("/")[2]
        for player in others:
            await self.ann.do(PartyInvite, name, player.name)
            await player.do(PartyJoin, name)
        await until(lambda: all(self.party_of(player) == name for player in (self.ann, *others)))
        return str(name)

    def activation(self, identity: Any) -> Any:
        return next((it for system in self.world.systems.values() if (it := system.find(identity))), None)

    def player(self, player: Someone) -> PlayerState:
        activation = self.activation(actor_id("player", player.name))
        return activation.boundary if activation else PlayerState()

    def party_of(self, player: Someone) -> str:
        return self.player(player).in_party.party

    def state(self, party: str) -> Any:
        return self.activation(actor_id("party", party)).boundary

    async def members(self, party: str) -> list[str]:
        info = await self.ann.send(PartyGet(1, party))
        return [member.player for member in info.members]

    def pushes(self, player: Someone, cls: type) -> list[Any]:
        told = [each for system in self.world.systems.values() for each in system.published.pushes]
        return [message for subject, message in told if subject == player.name and isinstance(message, cls)]


def running() -> Any:
    return cluster(("node-1", "node-2"), app=App, queries=QUERIES, **SETTINGS)


async def test_a_party_is_made_once_a_command() -> None:
    async with running() as cluster:
        world = World(cluster)
        await world.ann.connect()
        message = world.ann.command(PartyCreate, 3)
        first = await world.ann.send(message)
        assert await world.ann.send(message) == first
        party = first.entity.partition("/")[2]
        info = await world.ann.send(PartyGet(1, party))
        assert (info.leader, info.room, [member.player for member in info.members]) == ("ann", 3, ["ann"])
        await until(lambda: world.party_of(world.ann) == party)
        assert world.pushes(world.ann, PartyAssigned) == [PartyAssigned(0, party)]


async def test_an_invitation_arrives_is_listed_and_accepted_once() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party()
        await world.bob.connect()
        with pytest.raises(Rejected) as refused:
            await world.bob.do(PartyJoin, party)
        assert refused.value.code == "not_invited"
        await world.ann.do(PartyInvite, party, "bob")
        await until(lambda: bool(world.pushes(world.bob, PartyInvited)))
        inbox = await world.bob.send(PartyInvites(1))
        assert [(each.party, each.by) for each in inbox.invitations] == [(party, "ann")] and inbox.party is None
        await world.bob.do(PartyJoin, party)
        await until(lambda: world.party_of(world.bob) == party)
        inbox = await world.bob.send(PartyInvites(1))
        assert (inbox.invitations, inbox.party) == ([], party)
        assert await world.members(party) == ["ann", "bob"]


@pytest.mark.parametrize("blocker", ["ann", "bob"])
async def test_an_invitation_does_not_arrive_where_one_of_the_two_blocks(blocker: str) -> None:
    """Its sender sees what it sees of any other one, and what it says to somebody else arrives."""
    async with running() as cluster:
        world = World(cluster)
        party = await world.party()
        await world.bob.connect()
        await world.cyd.connect()
        one, other = (world.bob, "ann") if blocker == "bob" else (world.ann, "bob")
        await one.do(FriendsBlock, other)
        first = await world.ann.do(PartyInvite, party, "bob")
        second = await world.ann.do(PartyInvite, party, "cyd")
        assert (first.entity, first.version + 1) == (second.entity, second.version)
        await until(lambda: not any(each.untold for each in world.state(party).invited.values()))
        assert (await world.ann.send(PartyGet(1, party))).invited == ["bob", "cyd"]
        assert len(world.pushes(world.cyd, PartyInvited)) == 1 and not world.pushes(world.bob, PartyInvited)
        assert (await world.bob.send(PartyInvites(1))).invitations == []
        await one.do(FriendsUnblock, other)
        await world.ann.do(PartyInvite, party, "bob")
        await until(lambda: bool(world.pushes(world.bob, PartyInvited)))


@pytest.mark.parametrize("blocker", ["ann", "bob"])
async def test_a_block_takes_earlier_invitations_away_for_good(blocker: str) -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party(world.cyd)
        await world.bob.connect()
        await world.ann.do(PartyInvite, party, "bob")
        await until(lambda: bool(world.pushes(world.bob, PartyInvited)))
        blocks, other = (world.bob, "ann") if blocker == "bob" else (world.ann, "bob")
        await blocks.do(FriendsBlock, other)
        if blocker == "bob":
            assert (await world.bob.send(PartyInvites(1))).invitations == [], "at once for its own block"
        with pytest.raises(Rejected) as refused:
            await world.bob.do(PartyJoin, party)
        assert refused.value.code == "not_invited"
        await until(lambda: world.player(world.bob).in_party.invitations == ())
        assert (await world.ann.send(PartyGet(1, party))).invited == ["bob"], "the party is told nothing"
        await blocks.do(FriendsUnblock, other)
        await asyncio.sleep(1)
        assert (await world.bob.send(PartyInvites(1))).invitations == []
        await blocks.do(FriendsBlock, other)
        await world.cyd.do(PartyInvite, party, "bob")
        await until(lambda: bool(world.player(world.bob).in_party.invitations))
        assert [each.by for each in (await world.bob.send(PartyInvites(1))).invitations] == ["cyd"]
        await world.bob.do(PartyJoin, party)
        assert await world.members(party) == ["ann", "cyd", "bob"]


async def test_a_muted_player_invites_nobody_to_its_party() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party()
        await world.bob.connect()
        await cluster.systems["node-1"].ask(
            actor_id("standing", "ann"), "mute", (JUDGE, ModerationMute(1, "l", 1, "ann"))
        )
        await until(lambda: world.player(world.ann).muted_until_ms > 0)
        with pytest.raises(Rejected) as refused:
            await world.ann.do(PartyInvite, party, "bob")
        assert refused.value.code == "muted" and world.state(party).invited == {}
        assert not world.pushes(world.bob, PartyInvited)


async def test_nobody_is_made_by_an_invitation() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party()
        await world.ann.do(PartyInvite, party, "nobody")
        await until(lambda: not world.state(party).invited["nobody"].untold)
        assert actor_id("player", "nobody") not in cluster.database.entities
        with pytest.raises(NotFound):
            await world.ann.do(PartyLeave, "no-such-party")


async def test_a_code_leads_to_its_party_until_there_is_another_one() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party()
        await world.bob.connect()
        code = (await world.ann.send(PartyGet(1, party))).code
        await world.bob.do(PartyJoinCode, code.lower())
        await until(lambda: world.party_of(world.bob) == party)
        await world.ann.do(PartyRecode, party)
        await world.cyd.connect()
        for _ in range(2):  # at once, where the store has the old one, and later
            with pytest.raises(Rejected) as refused:
                await world.cyd.do(PartyJoinCode, code)
            assert refused.value.code == "no_such_code"
            await until(
                lambda: (
                    world.activation(actor_id("party", party)).stored_version
                    == world.activation(actor_id("party", party)).version
                )
            )


async def test_a_thousand_guesses_are_limited_by_player() -> None:
    async with running() as cluster:
        world = World(cluster)
        await world.bob.connect()
        limited, wait_s = 0, 0.0
        for number in range(1_000):
            try:
                await world.bob.do(PartyJoinCode, f"AAA-AAA-{number:03}")
            except RateLimited as error:
                limited, wait_s = limited + 1, error.retry_after_s or 0.0
            except Rejected as error:
                assert error.code == "no_such_code"
        assert limited == 990 and 5.0 < wait_s <= 6.1


async def test_joining_another_party_leaves_the_first() -> None:
    async with running() as cluster:
        world = World(cluster)
        one = await world.party(world.bob)
        made = await world.bob.do(PartyCreate, 4)
        two = made.entity.partition("/")[2]
        await until(lambda: world.party_of(world.bob) == two)
        await until(lambda: list(world.state(one).members) == ["ann"])
        await until(lambda: world.player(world.bob).in_party.places.leaving == ())


async def test_a_kick_ends_the_membership_and_nobody_comes_back_by_the_code() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party(world.bob)
        before = await world.ann.send(PartyGet(1, party))
        number = next(member.number for member in before.members if member.player == "bob")
        with pytest.raises(Rejected):
            await world.ann.do(PartyKick, party, "bob", number + 1)
        await world.ann.do(PartyKick, party, "bob", number)
        await until(lambda: world.party_of(world.bob) == "")
        assert world.pushes(world.bob, PartyOver) == [PartyOver(0, party, "kicked")]
        with pytest.raises(Rejected):
            await world.bob.do(PartyJoinCode, before.code)
        with pytest.raises(Rejected) as refused:
            await world.bob.send(PartyGet(1, party))
        assert refused.value.code == "not_in_party"


async def test_members_only_may_watch() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = actor_id("party", await world.party(world.bob))
        await world.system.ask(party, "admits", (world.bob.caller,))
        for stranger in (world.cyd.caller, Caller("host", "bob", "s")):
            with pytest.raises(Forbidden):
                await world.system.ask(party, "admits", (stranger,))
        with pytest.raises(Forbidden):
            await world.system.ask(actor_id("party", "none"), "admits", (world.bob.caller,))
        assert actor_id("party", "none") not in cluster.database.entities
        watching = [world.bob.caller, world.ann.caller]
        assert (await world.system.ask(party, "turns_away", (watching,))).refused == []
        await world.bob.do(PartyLeave, party.partition("/")[2])
        assert (await world.system.ask(party, "turns_away", (watching,))).refused == [0]


async def test_a_member_who_is_away_is_shown_so_and_the_leader_is_replaced() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party(world.bob, world.cyd)
        await world.ann.disconnect()
        await until(lambda: not world.state(party).members["ann"].here)
        assert world.state(party).leader == "ann"
        await until(lambda: world.state(party).leader == "bob", 20.0)
        await world.ann.connect()
        await until(lambda: world.state(party).members["ann"].here)
        assert world.state(party).leader == "bob"
        await world.bob.do(PartyPromote, party, "ann")
        assert world.state(party).leader == "ann"


async def test_a_short_break_costs_a_leader_nothing() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party(world.bob)
        await world.ann.disconnect()
        await until(lambda: not world.state(party).members["ann"].here)
        await world.ann.connect()
        await until(lambda: world.state(party).members["ann"].here)
        await asyncio.sleep(30.0)
        assert world.state(party).leader == "ann"


async def test_an_empty_party_is_over_and_leaves_memory() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party(world.bob)
        await world.ann.do(PartyDisband, party)
        await until(lambda: not world.party_of(world.ann) and not world.party_of(world.bob))
        assert world.pushes(world.bob, PartyOver) == [PartyOver(0, party, "disbanded")]
        stored = cluster.database.entities[actor_id("party", party)]
        await until(lambda: not stored.open_facts)


async def test_a_party_survives_its_nodes_death_and_replaces_who_died_with_it() -> None:
    """Both the party and its leader were on the node, and nobody calls either."""
    async with running() as cluster:
        world = World(cluster)
        party = await world.party(world.bob, world.cyd)
        await world.ann.disconnect()
        identity = actor_id("party", party)
        await until(lambda: not world.state(party).members["ann"].here)
        await until(lambda: world.activation(identity).stored_version == world.activation(identity).version)
        home = next(name for name, system in cluster.systems.items() if system.find(identity))
        other = next(name for name in cluster.systems if name != home)
        dead = cluster.systems[home].me
        await cluster.remove(home)
        await cluster.systems[other].store.bury(dead)
        cluster.show(other)
        world.system = cluster.systems[other]
        await until(lambda: world.activation(identity) is not None, 60.0)
        await until(lambda: world.state(party).leader in ("bob", "cyd"), 60.0)


async def test_a_party_plays_together_once_a_command() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party(world.bob, world.cyd)
        for match in ("m1", "m2"):
            options = MatchOptions(mode="objective", max_players=2 if match == "m1" else 4)
            await world.system.ask(actor_id("match", match), "create", (HOST, MatchCreate(1, "l", 1, match, options)))
        await world.bob.do(PartyReady, party)
        with pytest.raises(Rejected) as refused:
            await world.ann.do(PartyPlay, party, "m1")
        assert refused.value.code == "match_full"
        with pytest.raises(Rejected) as refused:
            await world.bob.do(PartyPlay, party, "m2")
        assert refused.value.code == "not_leader"
        assert all(not world.player(each).match for each in (world.ann, world.bob, world.cyd))
        message = world.ann.command(PartyPlay, party, "m2")
        first = await world.ann.send(message)
        await world.cyd.disconnect()
        assert await world.ann.send(message) == first and first.next_seq == first.first_seq + 1
        await until(lambda: all(world.player(each).match == "m2" for each in (world.ann, world.bob, world.cyd)))
        info = await world.ann.send(PartyGet(1, party))
        assert info.match == "m2" and not any(member.ready for member in info.members)
        with pytest.raises(NotFound):
            await world.ann.do(PartyPlay, party, "no-such-match")


async def test_a_party_plays_in_a_private_match_by_its_password() -> None:
    async with running() as cluster:
        world = World(cluster)
        party = await world.party(world.bob)
        create = MatchCreate(1, "l", 1, "m", MatchOptions(private=True), "hunter2")
        await world.system.ask(actor_id("match", "m"), "create", (HOST, create))
        for password, code in (("", "private"), ("hunter3", "wrong_password")):
            with pytest.raises(Rejected) as refused:
                await world.ann.do(PartyPlay, party, "m", None, password)
            assert refused.value.code == code
        await world.ann.do(PartyPlay, party, "m", None, "hunter2")
        await until(lambda: all(world.player(each).match == "m" for each in (world.ann, world.bob)))


async def test_players_know_the_size_of_their_party() -> None:
    async with running() as cluster:
        world = World(cluster)
        await world.party(world.bob)
        ann = world.activation(actor_id("player", "ann")).actor
        bob = world.activation(actor_id("player", "bob")).actor
        await until(lambda: (ann.party_size, ann.party_room, bob.party_size) == (2, 4, 2))
        await world.bob.do(PartyLeave, world.party_of(world.ann))
        await until(lambda: (ann.party_size, bob.party_size, bob.party_room) == (1, 0, 0))
