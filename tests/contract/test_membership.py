"""What every `Membership` does: gossip over real UDP, and its simulated twin."""

import asyncio
import socket
from collections.abc import AsyncIterator
from itertools import pairwise

import kinship
import msgspec
import pytest
from structlog.testing import capture_logs

from server.cluster.membership import KinshipMembership, from_meta, to_meta
from server.cluster.view import Member
from server.errors import BadInput, BadSetting, Unavailable
from server.ids import NodeId
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import GossipSettings
from tests.support.memberships import KEY, KinshipRig, SimulatedRig, Watched, member

Rig = KinshipRig | SimulatedRig


@pytest.fixture(params=[KinshipRig, SimulatedRig], ids=["kinship", "simulated"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig: Rig = request.param()
    yield rig
    await rig.close()


@pytest.fixture
async def gossip() -> AsyncIterator[KinshipRig]:
    rig = KinshipRig()
    yield rig
    await rig.close()


@pytest.fixture
async def simulated() -> AsyncIterator[SimulatedRig]:
    rig = SimulatedRig()
    yield rig
    await rig.close()


def replaced(me: Member, **fields: object) -> Member:
    return msgspec.structs.replace(me, **fields)


async def three(rig: Rig) -> list[Watched]:
    nodes = [await rig.node(member(name, i + 1)) for i, name in enumerate("cab")]
    for node in nodes:
        await node.sees(lambda now: len(now) == 3)
    return nodes


async def test_a_lone_node_is_a_member(rig: Rig) -> None:
    a = await rig.node(member("a"))
    assert a.membership.members() == (member("a"),)


async def test_all_see_all_sorted_with_every_field(rig: Rig) -> None:
    nodes = await three(rig)
    expected = (member("a", 2), member("b", 3), member("c", 1))
    for node in nodes:
        assert node.membership.members() == expected


async def test_state_changes_reach_the_others(rig: Rig) -> None:
    c, a, _ = await three(rig)
    await c.membership.update(member("c", 1, state="up", load=7, lag_ms=12))
    assert {m.node: m.state for m in c.membership.members()}[NodeId("c")] == "up"
    now = await a.sees(lambda now: now["c"].state == "up")
    assert (now["c"].load, now["c"].lag_ms) == (7, 12)
    await c.membership.update(member("c", 1, state="leaving"))
    await a.sees(lambda now: now["c"].state == "leaving")


async def test_load_reaches_the_others(rig: Rig) -> None:
    c, a, _ = await three(rig)
    for load in range(1, 40):
        await c.membership.update(member("c", 1, load=load))
    await a.sees(lambda now: now["c"].load == 39)


async def test_on_change_only_when_something_changed(rig: Rig) -> None:
    nodes = await three(rig)
    await nodes[0].membership.update(member("c", 1, state="up"))
    await nodes[1].sees(lambda now: now["c"].state == "up")
    await nodes[0].membership.update(member("c", 1, state="up"))
    for node in nodes:
        assert all(one != other for one, other in pairwise(node.changes))


async def test_leave_is_seen(rig: Rig) -> None:
    c, a, b = await three(rig)
    await c.membership.leave()
    await c.membership.close()
    await c.membership.close()  # again
    for node in (a, b):
        await node.sees(lambda now: set(now) == {"a", "b"})


async def test_a_node_that_has_left_tells_nobody_of_its_load(gossip: KinshipRig) -> None:
    c, a, _ = await three(gossip)
    looks = asyncio.Semaphore(0)
    await c.membership.leave()
    with capture_logs() as lines:
        await c.membership.update(member("c", 1, load=7))
        c.supervisor.every(0.2, looks.release, "looks")  # as often as a load is told
        for _ in range(3):
            await looks.acquire()
    assert not lines
    await a.sees(lambda now: set(now) == {"a", "b"})


async def test_a_crash_is_detected(rig: Rig) -> None:
    c, a, b = await three(rig)
    await c.membership.close()  # without a goodbye
    for node in (a, b):
        await node.sees(lambda now: set(now) == {"a", "b"})
    assert any(m.suspect for change in [*a.changes, *b.changes] for m in change)
    assert not any(m.suspect for m in a.membership.members())


async def test_a_restart_under_the_same_name_is_another_incarnation(rig: Rig) -> None:
    _, a, b = await three(rig)
    await b.membership.close()
    again = await rig.node(member("b", 9))
    for node in (a, again):
        now = await node.sees(lambda now: len(now) == 3 and now["b"].incarnation == 9)
        assert now["b"].address == (NodeId("b"), 9)


async def test_no_task_is_left(rig: Rig) -> None:
    before = asyncio.all_tasks()
    nodes = await three(rig)
    await nodes[0].membership.leave()
    for node in nodes:
        await node.membership.close()
        assert not len(node.supervisor)
    assert asyncio.all_tasks() == before
    with pytest.raises(Unavailable):
        await KinshipMembership(GossipSettings(), "test", KEY, Metrics(), Supervisor("x")).update(member("x"))


# gossip over UDP alone


async def test_the_newest_run_of_a_node_is_the_member_while_an_older_one_lingers(gossip: KinshipRig) -> None:
    _, a, _ = await three(gossip)
    await gossip.node(member("b", 9))  # the older run still lives
    now = await a.sees(lambda now: now["b"].incarnation == 9)
    assert len(now) == 3


async def test_stats_count_packets(gossip: KinshipRig) -> None:
    nodes = await three(gossip)
    assert nodes[0].membership.stats()["packets_received"] > 0
    assert nodes[0].metrics.members == 3
    assert nodes[0].metrics.gossip_events_total > 0


@pytest.mark.parametrize("key", [None, bytes(32)], ids=["without a key", "with another key"])
async def test_stranger_without_the_key_neither_joins_nor_is_believed(gossip: KinshipRig, key: bytes | None) -> None:
    """F51: another process of this machine, on loopback. It says that it is a node, and that `b` has left."""
    a, b = await gossip.node(member("a")), await gossip.node(member("b"))
    await a.sees(lambda now: len(now) == 2)
    keys, name = ([key] if key else []), str(member("b").address)
    seeds = [a.membership.endpoint, b.membership.endpoint]  # type: ignore[attr-defined]
    for liar in ("c#1", name):
        config = kinship.Config.lan(
            name=liar, bind="127.0.0.1:0", cluster="test", seeds=seeds, keys=keys, insecure_plaintext=key is None,
            meta=to_meta(member("c")),
        )  # fmt: skip
        stranger = kinship.Cluster(config)
        await stranger.start()
        with pytest.raises(kinship.JoinError):
            await stranger.join(seeds)
        assert [known.name for known in stranger.members()] == [liar]
        await stranger.leave(timeout=0.5)
        await stranger.close()
    assert [str(known.address) for known in a.membership.members()] == ["a#1", "b#1"]


async def test_a_port_in_use_is_unavailable() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        membership = KinshipMembership(GossipSettings(bind=bind), "test", KEY, Metrics(), Supervisor("x"))
        with pytest.raises(Unavailable, match=bind):
            await membership.start(member("a"), lambda: None)


BAD_SETTINGS: list[tuple[dict[str, object], str]] = [
    ({"bind": "nonsense"}, "gossip.bind"),
    ({"seeds": ["nonsense"]}, "gossip.seeds"),
    ({"bind": "0.0.0.0:7946"}, "gossip.advertise"),  # an address that nobody could be told
    ({"bind": "[::]:7946"}, "gossip.advertise"),
    ({"bind": "10.0.0.5:7946", "advertise": "0.0.0.0:7946"}, "gossip.advertise"),
]


@pytest.mark.parametrize(("fields", "field"), BAD_SETTINGS)
def test_bad_settings_are_named(fields: dict[str, object], field: str) -> None:
    settings = msgspec.convert(fields, GossipSettings)
    with pytest.raises(BadSetting) as caught:
        KinshipMembership(settings, "test", KEY, Metrics(), Supervisor("x"))
    assert caught.value.field == field


async def test_bad_settings_that_only_the_library_knows() -> None:
    settings = GossipSettings(gossip_interval_s=5.0)
    membership = KinshipMembership(settings, "test", KEY, Metrics(), Supervisor("x"))
    with pytest.raises(BadSetting, match=r"gossip\.gossip_interval_s"):
        await membership.start(member("a"), lambda: None)
    membership = KinshipMembership(GossipSettings(), "test", KEY, Metrics(), Supervisor("x"))
    with pytest.raises(BadSetting, match=r"gateway\.advertise_url"):
        await membership.start(member("a", client_url="wss://" + "x" * 600), lambda: None)


async def test_a_peer_with_unreadable_fields_is_no_member(gossip: KinshipRig) -> None:
    a = await gossip.node(member("a"))
    config = kinship.Config.lan(
        name="odd#1", bind="127.0.0.1:0", cluster="test", seeds=[gossip.seed], keys=[KEY], meta={"v": "1", "w": "x"}
    )
    odd = kinship.Cluster(config)
    await odd.start()
    async with asyncio.timeout(5):
        while not a.metrics.gossip_bad_members_total:  # noqa: ASYNC110 - a metric has no event
            await asyncio.sleep(0.01)
    assert [m.node for m in a.membership.members()] == ["a"]
    await odd.close()


def test_metadata_comes_back_as_it_was() -> None:
    me = member("node-1", 123456789, state="leaving", load=5, lag_ms=6, since=1_700_000_000, since_part_ms=7)
    assert from_meta("node-1#123456789", to_meta(me), suspect=False) == me


@pytest.mark.parametrize(
    "change",
    [{"v": "2"}, {"w": "0"}, {"w": "99"}, {"w": "-1"}, {"w": "\u0663"}, {"s": "z"}, {"l": "x"}, {"l": "9" * 30}],
)
def test_bad_metadata_is_bad_input(change: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        from_meta("a#1", {**to_meta(member("a")), **change}, suspect=False)


@pytest.mark.parametrize("name", ["a", "a#", "#1", "a#x", "../a#1", "a#1#2", "a#" + "9" * 30])
def test_bad_names_are_bad_input(name: str) -> None:
    with pytest.raises(BadInput):
        from_meta(name, to_meta(member("a")), suspect=False)


def test_no_metadata_is_bad_input() -> None:
    with pytest.raises(BadInput):
        from_meta("a#1", {}, suspect=False)


# the twin's faults


@pytest.mark.virtual_time
async def test_a_split_and_its_end(simulated: SimulatedRig) -> None:
    c, a, b = await three(simulated)
    simulated.gossip.split({NodeId("a")}, {NodeId("b"), NodeId("c")})
    await a.sees(lambda now: set(now) == {"a"})
    await b.sees(lambda now: set(now) == {"b", "c"})
    await b.membership.update(member("b", 3, state="up"))
    await c.sees(lambda now: now["b"].state == "up")
    simulated.gossip.heal()
    now = await a.sees(lambda now: set(now) == {"a", "b", "c"})
    assert now["b"].state == "up"


@pytest.mark.virtual_time
async def test_news_can_be_late_and_never_goes_back(simulated: SimulatedRig) -> None:
    c, a, _ = await three(simulated)
    delays = iter([0.1, 0.1, 0.01, 0.01])
    simulated.gossip.delay = lambda frm, to: next(delays, 0.01)
    await c.membership.update(member("c", 1, load=1))
    await c.membership.update(member("c", 1, load=2))
    await a.sees(lambda now: now["c"].load == 2)
    await asyncio.sleep(0.15)  # the older news comes now
    assert {m.node: m.load for m in a.membership.members()}[NodeId("c")] == 2


@pytest.mark.virtual_time
async def test_dropped_news_is_told_again(simulated: SimulatedRig) -> None:
    c, a, _ = await three(simulated)
    simulated.gossip.delay = lambda frm, to: None
    await c.membership.update(member("c", 1, load=1))
    await asyncio.sleep(0.05)
    simulated.gossip.delay = lambda frm, to: 0.01
    await a.sees(lambda now: now["c"].load == 1)


@pytest.mark.virtual_time
async def test_a_lie_is_believed_until_it_ends(simulated: SimulatedRig) -> None:
    _, a, _ = await three(simulated)
    gossip = simulated.gossip
    gossip.lie(NodeId("a"), NodeId("c"), None)
    await a.sees(lambda now: set(now) == {"a", "b"})
    gossip.lie(NodeId("a"), NodeId("c"), member("c", 77))
    await a.sees(lambda now: now["c"].incarnation == 77)
    gossip.lie_no_more(NodeId("a"))
    await a.sees(lambda now: now["c"].incarnation == 1)


@pytest.mark.virtual_time
async def test_a_false_death_and_its_refutation(simulated: SimulatedRig) -> None:
    _, a, b = await three(simulated)
    simulated.gossip.silence(NodeId("a"), NodeId("c"))
    await a.sees(lambda now: now["c"].suspect)
    await a.sees(lambda now: "c" not in now)
    assert len(b.membership.members()) == 3
    simulated.gossip.speak(NodeId("a"), NodeId("c"))
    await a.sees(lambda now: "c" in now and not now["c"].suspect)


@pytest.mark.virtual_time
async def test_news_that_outlives_its_node_does_not_revive_it(simulated: SimulatedRig) -> None:
    c, a, _ = await three(simulated)
    simulated.gossip.delay = lambda frm, to: 0.4 if frm == "c" else 0.01  # slower than detection
    await c.membership.update(member("c", 1, load=5))
    simulated.gossip.crash(NodeId("c"))
    await a.sees(lambda now: "c" not in now)
    await a.sees(lambda now: "c" in now)  # the late news
    await a.sees(lambda now: "c" not in now)
