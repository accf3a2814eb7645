"""A member goes on in another process: gossip sees one member all the while, over real UDP and in the twin."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from server.cluster import agreement, membership
from server.cluster.membership import KinshipMembership, from_meta, gossip_name, to_meta
from server.cluster.simulated import SimulatedMembership
from server.cluster.terms import Terms
from server.cluster.view import Member, View
from server.errors import BadInput, Unavailable
from server.ids import NodeId
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import GossipSettings
from tests.support.gossip_process import GossipArguments
from tests.support.memberships import KEY, KinshipRig, SimulatedRig, Watched, member

START_S = 30.0


def up(node: str, incarnation: int = 1, **fields: Any) -> Member:
    return member(node, incarnation, state="up", knows_heirs=True, **fields)


def heir_of(me: Member) -> Member:
    return msgspec.structs.replace(me, generation=me.generation + 1)


# ---- names and fields ----


@pytest.mark.parametrize("generation", [0, 1, 12])
def test_a_process_has_a_name_of_its_own_and_its_run_has_one_address(generation: int) -> None:
    me = up("a", 5, generation=generation, terms=Terms("d" * 32))
    name = gossip_name(me)
    assert name == ("a#5@dddddddddddd" if generation == 0 else f"a#5.{generation}@dddddddddddd")
    heard = from_meta(name, to_meta(me), suspect=False)
    assert heard == me and heard.address == up("a", 5).address


@pytest.mark.parametrize("name", ["a#5.", "a#5.x", "a#.1", "a#5.1.2", "a#5.-1", "a#5." + "9" * 30])
def test_bad_generations_are_bad_input(name: str) -> None:
    with pytest.raises(BadInput):
        from_meta(name, to_meta(up("a")), suspect=False)


def test_digest_and_slots_of_a_view_do_not_know_generations() -> None:
    before, after = View((up("a"), up("b", 2))), View((up("a"), heir_of(up("b", 2))))
    assert before.digest == after.digest and after.follow((up("a"), up("b", 2))).table is after.table
    assert before.table.owners == after.table.owners and after.members[NodeId("b")].generation == 1


def test_a_program_that_knows_no_heirs_says_nothing_of_them() -> None:
    old = member("a", state="up")
    assert "h" not in to_meta(old)
    heard = from_meta("a#1", to_meta(old), suspect=False)
    assert agreement.without_heirs([heard, up("b")]) == ["a"]
    assert agreement.without_heirs([from_meta("b#1", to_meta(up("b")), suspect=False)]) == []


def test_members_of_an_earlier_version_are_read() -> None:
    """In messages, where they are arrays."""
    array = msgspec.to_builtins(up("a"))
    read = msgspec.convert(array[:13], Member)
    assert (read.generation, read.knows_heirs) == (0, False)


# ---- one member all the while ----


@pytest.fixture(params=[KinshipRig, SimulatedRig], ids=["kinship", "simulated"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[KinshipRig | SimulatedRig]:
    rig: KinshipRig | SimulatedRig = request.param()
    yield rig
    await rig.close()


async def succeed(rig: KinshipRig | SimulatedRig, old: Watched, me: Member) -> Watched:
    """The process of `old` ends without a word, and its heir starts."""
    data, supervisor = old.membership.bequeath(), Supervisor(me.node)
    heir: KinshipMembership | SimulatedMembership
    if isinstance(rig, KinshipRig):
        await old.membership.close()
        heir = KinshipMembership(GossipSettings(load_interval_s=0.2), "test", KEY, Metrics(), supervisor)
    else:
        assert isinstance(old.membership, SimulatedMembership)
        rig.gossip.crash(me.node)
        heir = SimulatedMembership(rig.gossip)
    heir.inherit(data)
    watched = Watched(heir, supervisor, Metrics())
    rig.nodes.append(watched)
    await heir.start(me, watched.on_change)
    return watched


async def test_observers_see_one_member_go_on(rig: KinshipRig | SimulatedRig) -> None:
    a, b = await rig.node(up("a")), await rig.node(up("b", 2))
    for node in (a, b):
        await node.sees(lambda now: len(now) == 2)
    digest = View(a.membership.members()).digest
    a.changes.clear()
    heir = await succeed(rig, b, heir_of(up("b", 2)))
    assert [str(it.address) for it in heir.membership.members()] == ["a#1", "b#2"], "it hears all from the first on"
    await a.sees(lambda now: now["b"].generation == 1)
    second = await succeed(rig, heir, heir_of(heir_of(up("b", 2))))
    await a.sees(lambda now: now["b"].generation == 2 and not now["b"].suspect)
    await second.sees(lambda now: len(now) == 2)
    assert {View(change).digest for change in a.changes} == {digest}


@pytest.mark.virtual_time
async def test_an_heir_that_takes_over_beside_its_predecessor_is_the_node() -> None:
    """In the twin a process may end after its heir has joined: nobody misses it."""
    rig = SimulatedRig()
    a, b = await rig.node(up("a")), await rig.node(up("b", 2))
    await a.sees(lambda now: len(now) == 2)
    with pytest.raises(Unavailable):
        await SimulatedMembership(rig.gossip).start(up("b", 2), lambda: None)
    heir = await rig.node(heir_of(up("b", 2)))
    assert isinstance(b.membership, SimulatedMembership)
    rig.gossip.crash(NodeId("b"), b.membership)
    await asyncio.sleep(10 * rig.gossip.detect_s)
    assert [it.generation for it in a.membership.members()] == [0, 1]
    rig.gossip.crash(NodeId("b"), heir.membership)  # type: ignore[arg-type]
    await a.sees(lambda now: set(now) == {"a"})
    await rig.close()


# ---- members that are carried ----


@pytest.mark.virtual_time
async def test_carried_members_that_nobody_hears_are_let_go_after_a_while() -> None:
    rig = SimulatedRig()
    nodes = [await rig.node(up(name, number)) for number, name in enumerate("abc", 1)]
    await nodes[1].sees(lambda now: len(now) == 3)
    data = nodes[1].membership.bequeath()
    for name in "bc":
        rig.gossip.crash(NodeId(name))
    heir = SimulatedMembership(rig.gossip)
    heir.inherit(data)
    watched = Watched(heir, Supervisor("b"), Metrics())
    rig.nodes.append(watched)
    await heir.start(heir_of(up("b", 2)), watched.on_change)
    assert {str(it.node) for it in heir.members()} == set("abc")
    await watched.sees(lambda now: set(now) == {"a", "b"})
    await rig.close()


async def test_carried_members_count_as_heard_until_the_time_is_over() -> None:
    """Over real UDP, with nobody to be heard."""
    rig = KinshipRig()
    a, b = await rig.node(up("a")), await rig.node(up("b", 2))
    await b.sees(lambda now: len(now) == 2)
    data = b.membership.bequeath()
    await a.membership.close()
    await b.membership.close()
    me = heir_of(up("b", 2))
    heir = KinshipMembership(GossipSettings(), "test", KEY, Metrics(), Supervisor("b"))
    with pytest.raises(BadInput):
        heir.inherit(data[:-1])
    heir.inherit(data)
    watched = Watched(heir, Supervisor("b"), Metrics())
    await heir.start(me, watched.on_change)
    assert {str(it.address) for it in heir.members()} == {"a#1", "b#2"}
    heir._drop_carried()
    assert {str(it.address) for it in heir.members()} == {"b#2"}
    assert membership.CARRIED_S > membership.SEEK_S
    await heir.close()
    await rig.close()


# ---- real processes ----


class GossipProcess:
    """A member in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said = ""

    async def line(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(START_S):
            return (await self._process.stdout.readline()).decode().strip()

    async def ask(self, line: str = "") -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        return await self.line()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def process(me: Member, settings: GossipSettings) -> AsyncIterator[GossipProcess]:
    arguments = msgspec.json.encode(GossipArguments(me, settings)).decode()
    pipe = asyncio.subprocess.PIPE
    started = GossipProcess(
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.gossip_process", arguments, stdin=pipe, stdout=pipe
        )
    )
    try:
        started.said = await started.line()
        yield started
    finally:
        await started.kill()


async def test_an_observer_of_two_processes_sees_no_leave_no_join_and_one_digest() -> None:
    rig = KinshipRig()
    observer = await rig.node(up("a"))
    settings = GossipSettings(seeds=[rig.seed or ""])
    async with process(up("b", 2), settings) as old, process(heir_of(up("b", 2)), GossipSettings()) as heir:
        await observer.sees(lambda now: "b" in now, START_S)
        digest = View(observer.membership.members()).digest
        observer.changes.clear()
        bequest = await old.ask()
        await old.kill()
        joined = json.loads(await heir.ask(bequest))
        assert joined == {"endpoint": json.loads(old.said)["endpoint"], "members": ["a#1", "b#2"]}
        await observer.sees(lambda now: now["b"].generation == 1, START_S)
        raw = observer.membership._cluster  # type: ignore[attr-defined]
        async with asyncio.timeout(START_S):
            while "b#2" in [peer.name for peer in raw.members()]:  # noqa: ASYNC110 - until the old name is dead
                await asyncio.sleep(0.02)
        assert not any(it.suspect for it in observer.membership.members())
        assert {View(change).digest for change in observer.changes} == {digest}
        await heir.kill()
        await observer.sees(lambda now: set(now) == {"a"}, START_S)
    await rig.close()
