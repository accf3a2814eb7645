"""Directories of several nodes over the in-memory transport, while slots move between them."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from server.cluster.view import Member, MemberState, View
from server.directory.directory import Directory
from server.directory.messages import Hint, Word
from server.directory.stream import LIMITS, DirectoryLimits
from server.errors import BadInput, Unavailable
from server.ids import ActorId, Incarnation, NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import ActorSettings, TransportSettings
from server.transport.memory import MemoryNetwork, MemoryTransport
from server.transport.ports import Service
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

IDS = [ActorId(f"near/{n}") for n in range(120)]
SOON = ActorSettings(directory_wait_s=0.4)
LATE = ActorSettings(directory_wait_s=30.0)


class Peer:
    """One node: what lives there, and its directory."""

    def __init__(self, world: "World", me: NodeAddress, settings: ActorSettings) -> None:
        self.me, self.live, self.view = me, dict[ActorId, None](), View(())
        self.supervisor = Supervisor(str(me))
        self.transport = MemoryTransport(world.network, TransportSettings(), Metrics())
        rng = random.Random(str(me))
        self.directory = Directory(self.transport, settings, LoopClock(), rng, self.supervisor, self, world.limits)
        self.directory.begin(me)

    def activation_ids(self) -> list[ActorId]:
        return list(self.live)

    def find(self, identity: ActorId) -> object | None:
        return self if identity in self.live else None

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> bool:
        self.die(identity)
        return False

    def owner(self, identity: ActorId) -> NodeAddress | None:
        return self.view.table.owner(identity)

    def bear(self, *identities: ActorId) -> None:
        for identity in identities:
            self.live[identity] = None
            owner = self.owner(identity)
            if owner is not None:
                self.directory.announce(identity, owner)

    def die(self, *identities: ActorId) -> None:
        for identity in identities:
            if identity in self.live:
                del self.live[identity]
                self.directory.forget(identity, self.me, self.owner(identity))

    def entries(self) -> dict[ActorId, NodeAddress]:
        return self.directory.partition.entries()


class World:
    def __init__(self, settings: ActorSettings, limits: DirectoryLimits) -> None:
        self.network, self.settings, self.limits = MemoryNetwork(), settings, limits
        self.peers: dict[str, Peer] = {}
        self.every: list[Peer] = []
        self.silent: dict[tuple[str, str], None] = {}  # who does not reach whom
        self.network.delay = lambda frm, to: None if (frm.node, to.node) in self.silent else 0.0005

    async def start(self, name: str, incarnation: int = 1) -> Peer:
        peer = self.peers[name] = Peer(self, NodeAddress(NodeId(name), Incarnation(incarnation)), self.settings)
        self.every.append(peer)
        await peer.transport.start(peer.me)
        return peer

    async def join(self, name: str) -> Peer:
        """Everybody sees it join: it owns nothing yet, and every owner is right."""
        joiner = await self.start(name)
        self.show(self.view("".join(self.peers), **{name: "joining"}))
        await until(self.true)
        return joiner

    async def crash(self, name: str) -> None:
        peer = self.peers.pop(name)
        self.network.crash(peer.me)
        await peer.supervisor.stop()

    def view(self, names: str, **states: MemberState) -> View:
        return View(
            tuple(
                Member(peer.me.node, peer.me.incarnation, 4, states.get(name, "up"), peer.transport.endpoint, "", "")
                for name, peer in self.peers.items()
                if name in names
            )
        )

    def show(self, view: View, to: str | None = None) -> None:
        """Those named see `view`; everybody in it, if nobody is named."""
        for name in to if to is not None else [str(address.node) for address in view.addresses]:
            peer = self.peers[name]
            peers = {address: member.transport for address, member in view.addresses.items() if address != peer.me}
            peer.transport.set_peers(peers)
            peer.view = view
            peer.directory.on_view(view)

    def true(self) -> bool:
        """Every owner lists what lives elsewhere, and nobody anything else or waits."""
        for peer in self.peers.values():
            expected = {
                identity: other.me
                for other in self.peers.values()
                if other is not peer
                for identity in other.live
                if peer.owner(identity) == peer.me
            }
            if peer.entries() != expected or not peer.directory.quiet:
                return False
        return True

    async def stop(self) -> None:
        for peer in self.every:
            await peer.transport.stop()
            await peer.supervisor.stop()


@asynccontextmanager
async def cluster(names: str, settings: ActorSettings = SOON, limits: DirectoryLimits = LIMITS) -> AsyncIterator[World]:
    """Nodes `a`, `b`, ... that see each other, with activations spread over them anyhow."""
    world = World(settings, limits)
    try:
        for name in names:
            await world.start(name)
        world.show(world.view(names))
        for n, identity in enumerate(IDS):
            world.peers[names[n % len(names)]].bear(identity)
        await until(world.true)
        yield world
    finally:
        await world.stop()


def of(peer: Peer, owner: Peer, but: Peer | None = None) -> list[ActorId]:
    """Ids whose slots `owner` has in the view of `peer` (and not in that of `but`)."""
    return [
        identity
        for identity in IDS
        if peer.owner(identity) == owner.me and (but is None or but.owner(identity) != owner.me)
    ]


async def begins(peer: Peer, identity: ActorId) -> "asyncio.Task[None]":
    """A look-up that has begun and waits."""
    task = asyncio.ensure_future(peer.directory.wait_until_known(identity))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_an_answer_that_nobody_can_read_is_no_end_of_the_stream() -> None:
    async with cluster("ab") as world:
        a, b = world.peers.values()
        for answer in (b"\x92\x01\x91\xa2\xff\xfe", b"", b"\xc1"):
            b.transport.serve(Service.DIRECTORY, lambda peer, payload, answer=answer: answer)  # type: ignore[misc]
            a.bear(ActorId(f"near/more-{len(answer)}"))
            await asyncio.sleep(0.02)
        b.transport.serve(Service.DIRECTORY, b.directory._serve)
        a.bear(*(ActorId(f"near/a-{n}") for n in range(20)))
        await until(world.true)
        assert a.supervisor.crashes == 0


async def test_births_and_deaths_reach_the_owner() -> None:
    async with cluster("abc") as world:
        for peer in list(world.peers.values()):
            peer.die(*list(peer.live)[::2])
            peer.bear(*(ActorId(f"near/{peer.me.node}-{n}") for n in range(20)))
        await until(world.true)
        assert sum(len(peer.entries()) for peer in world.peers.values()) > 20


async def test_a_joining_node_is_handed_its_slots_and_asks_nobody() -> None:
    async with cluster("abc", LATE) as world:
        joiner = await world.join("d")
        view = world.view("abcd")
        world.show(view, "d")
        assert joiner.directory.unknown_slots > 0
        moved = of(joiner, joiner)
        waiting = await begins(joiner, moved[0])
        world.show(view, "abc")
        await waiting
        await until(world.true)
        assert set(joiner.entries()) == set(moved)


async def test_a_leaving_node_hands_everything_over_and_stays_an_address() -> None:
    async with cluster("abc", LATE) as world:
        leaver = world.peers["c"]
        here = list(leaver.live)
        world.show(world.view("abc", c="leaving"))
        assert leaver.directory.frozen > 0
        await until(world.true)
        assert leaver.directory.frozen == 0 and leaver.entries() == {}
        listed = world.peers["a"].entries() | world.peers["b"].entries()
        assert all(listed[identity] == leaver.me for identity in here)
        leaver.die(*here[::2])
        await until(world.true)


async def test_after_a_crash_the_survivors_are_asked_and_look_ups_wait_for_it() -> None:
    async with cluster("abc", LATE) as world:
        view = world.view("ab")
        await world.crash("c")
        heir = world.peers["a"]
        before = heir.view
        world.silent["b", "a"] = None
        world.show(view)
        gained = [
            identity for identity in IDS if heir.owner(identity) == heir.me and before.table.owner(identity) != heir.me
        ]
        waiting = await begins(heir, gained[0])
        others = [one for one in of(heir, heir) if one not in gained]
        await heir.directory.wait_until_known(others[0])  # what was there before does not wait
        world.silent.clear()
        await waiting
        await until(world.true)


async def test_a_look_up_never_waits_longer_than_its_bound() -> None:
    async with cluster("abc", ActorSettings(directory_wait_s=0.1)) as world:
        view = world.view("ab")
        await world.crash("c")
        heir = world.peers["a"]
        before = heir.view
        world.silent["b", "a"] = world.silent["a", "b"] = None
        world.show(view)
        gained = [
            identity for identity in IDS if heir.owner(identity) == heir.me and before.table.owner(identity) != heir.me
        ]
        async with asyncio.timeout(5):
            await heir.directory.wait_until_known(gained[0])
        await until(lambda: heir.directory.unknown_slots == 0)
        world.silent.clear()
        await until(world.true)  # late answers are still worth having


async def test_a_giver_that_does_not_share_the_view_is_not_waited_for_long() -> None:
    async with cluster("abc") as world:
        joiner = await world.join("d")
        world.show(world.view("abcd"), "abd")  # `c` still believes the old one
        await until(lambda: joiner.directory.unknown_slots == 0)
        lived = {identity: peer.me for peer in world.peers.values() for identity in peer.live}
        assert all(joiner.entries()[one] == lived[one] for one in of(joiner, joiner))
        world.show(world.view("abcd"), "c")
        await until(world.true)


async def test_a_handoff_that_comes_too_early_is_held() -> None:
    async with cluster("abc", LATE) as world:
        joiner = await world.join("d")
        world.show(world.view("abcd"), "abc")
        await until(lambda: joiner.directory.early == 3)
        assert joiner.entries() == {}
        givers = [world.peers[name] for name in "abc"]
        assert all(giver.directory.frozen for giver in givers)
        for giver in givers:
            world.silent[str(giver.me.node), "d"] = None  # nothing more comes
        world.show(world.view("abcd"), "d")
        assert set(joiner.entries()) == set(of(joiner, joiner))
        world.silent.clear()
        await until(world.true)


async def test_changes_while_a_handoff_was_held_are_found_out() -> None:
    async with cluster("abc", LATE) as world:
        joiner = await world.join("d")
        world.show(world.view("abcd"), "abc")
        await until(lambda: joiner.directory.early == 3)
        for peer in list(world.peers.values()):
            peer.die(*list(peer.live)[::2])
        world.show(world.view("abcd"), "d")
        await until(world.true)


async def test_a_view_that_turns_back_takes_the_slots_back() -> None:
    async with cluster("ab", LATE) as world:
        await world.join("c")
        for name in "ab":
            world.silent[name, "c"] = None
        world.show(world.view("abc"), "ab")
        world.peers["a"].die(*list(world.peers["a"].live)[::2])
        world.show(world.view("abc", c="leaving"), "ab")
        assert world.peers["a"].directory.frozen == world.peers["b"].directory.frozen == 0
        world.show(world.view("abc", c="leaving"), "c")
        world.silent.clear()
        await until(world.true)


async def test_a_change_during_a_handoff_sends_the_slots_to_who_owns_them_now() -> None:
    async with cluster("ab", LATE) as world:
        for name in "cd":
            await world.start(name)
        world.show(world.view("abcd", c="joining", d="joining"))
        await until(world.true)
        for name in "ab":
            world.silent[name, "c"] = None
        world.show(world.view("abcd", d="joining"))
        await until(lambda: all(world.peers[name].directory.frozen for name in "ab"))
        world.show(world.view("abcd", c="leaving"))
        world.silent.clear()
        await until(world.true)


async def test_a_receiver_that_dies_in_the_middle_leaves_nothing_behind() -> None:
    async with cluster("abc", LATE) as world:
        await world.join("d")
        world.silent["b", "d"] = None  # one of three handoffs does not arrive
        world.show(world.view("abcd"))
        await until(lambda: world.peers["a"].directory.frozen == 0 and world.peers["b"].directory.frozen > 0)
        view = world.view("abc")
        await world.crash("d")
        world.show(view)
        assert world.peers["b"].directory.frozen == 0
        await until(world.true)


async def test_nodes_that_lost_each_other_agree_again() -> None:
    async with cluster("abcd") as world:
        for one in "ab":
            for other in "cd":
                world.silent[one, other] = world.silent[other, one] = None
        world.show(world.view("ab"))
        world.show(world.view("cd"))
        for peer in list(world.peers.values()):
            peer.die(*list(peer.live)[::3])
            peer.bear(*(ActorId(f"near/{n}") for n in range(200, 240)))  # everybody has one
        world.silent.clear()
        for name in "dacb":
            world.show(world.view("abcd"), name)
        await until(world.true)
        assert all(sum(ActorId(f"near/{n}") in peer.live for peer in world.every) == 1 for n in range(200, 240))


async def test_only_one_side_saw_a_member_go() -> None:
    async with cluster("abc") as world:
        a, c = world.peers["a"], world.peers["c"]
        world.show(world.view("ab"), "a")
        c.die(*list(c.live)[::2])
        c.bear(*(ActorId(f"near/{n}") for n in range(300, 330)))
        world.show(world.view("abc"), "a")
        await until(world.true)
        assert c.me in a.entries().values()


async def test_a_node_that_returns_under_its_old_name_is_another_run() -> None:
    async with cluster("abc") as world:
        old = world.peers["c"]
        await world.crash("c")
        new = await world.start("c", incarnation=2)
        world.show(world.view("abc"), "ab")
        world.show(world.view("abc"), "c")
        new.bear(*IDS[2::6])
        await until(world.true)
        assert all(old.me not in peer.entries().values() for peer in world.peers.values())


async def test_a_stranger_is_not_listened_to() -> None:
    async with cluster("ab") as world:
        stranger = await world.start("c")
        a = world.peers["a"]
        stranger.transport.set_peers({a.me: a.transport.endpoint})
        mine = of(a, a)[:5]
        word = msgspec.msgpack.encode(Word(1, 0, mine))
        with pytest.raises(Unavailable):
            await stranger.transport.request(a.me, Service.DIRECTORY, word, 1.0)
        with pytest.raises(BadInput):
            await world.peers["b"].transport.request(a.me, Service.DIRECTORY, b"\x93no", 1.0)
        assert stranger.me not in a.entries().values()


async def test_a_doubt_heals_an_entry_at_once_and_a_wrong_doubt_is_undone() -> None:
    async with cluster("abc") as world:
        a, b, c = world.peers.values()
        gone, there = [one for one in of(a, a) if one in b.live][:2]
        del b.live[gone]  # it says nothing
        b.transport.send(a.me, Service.DIRECTORY, msgspec.msgpack.encode(Hint(gone, b.me.node, b.me.incarnation)))
        c.directory.forget(there, b.me, a.me)
        await until(lambda: gone not in a.entries())
        await until(lambda: a.entries().get(there) == b.me)
        a.directory.forget(there, b.me, a.me)
        assert a.directory.find(there) is None
        await until(world.true)


async def test_an_activation_that_was_placed_elsewhere_and_never_began_is_dropped() -> None:
    async with cluster("ab", ActorSettings(directory_wait_s=0.4, call_timeout_s=0.1)) as world:
        a, b = world.peers.values()
        new = [ActorId(f"near/{n}") for n in range(400, 480)]
        one, other = [identity for identity in new if a.owner(identity) == a.me][:2]
        assert a.directory.register(one, b.me) == a.directory.register(other, b.me) == b.me
        assert a.directory.find(one) == b.me
        b.bear(other)
        await until(lambda: a.directory.find(one) is None)
        assert a.directory.find(other) == b.me
        await until(world.true)


async def test_messages_that_are_lost_are_said_again() -> None:
    async with cluster("abc") as world:
        rng = random.Random(1)
        world.network.delay = lambda frm, to: None if rng.random() < 0.3 else 0.0005
        for n in range(5):
            for peer in list(world.peers.values()):
                peer.die(*rng.sample(list(peer.live), 5))
                peer.bear(*(ActorId(f"near/{n}-{peer.me.node}-{k}") for k in range(5)))
            world.show(world.view("abc", c="leaving" if n % 2 == 0 else "up"))
            await asyncio.sleep(0)
        await until(world.true)


async def test_a_node_that_stops_leaves_no_task_and_no_timer_that_goes_on() -> None:
    async with cluster("ab") as world:
        a = world.peers["a"]
        world.silent["a", "b"] = None
        a.die(*list(a.live)[:10])
        await a.transport.stop()
        await a.supervisor.stop()
        assert len(a.supervisor) == 0
        del world.peers["a"]


async def test_large_handoffs_go_in_parts() -> None:
    async with cluster("ab", LATE, DirectoryLimits(batch=7)) as world:
        await world.start("c")
        world.show(world.view("abc", c="joining"))
        world.show(world.view("abc"))
        assert world.peers["a"].directory.frozen > 2
        await until(world.true)
