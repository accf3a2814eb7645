"""Latest topics through the gateway: a snapshot, then the newest of what changed, never a wrong picture."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from server.ids import ActorId
from server.sessions.time_limits import Limits, StreamLimits, TransferLimits
from server.wire.messages import Unwatch, Watch, WatchLatest
from tests.support.gateways import Light, MemoryClient, World, gateways
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time
NODES = ("node-1", "node-2")
QUICK = {"latest_tick_ms": 20}
AT_ONCE = Limits(transfer=TransferLimits(spread_s=0.01), streams=StreamLimits(renew_s=0.5))


class Viewer:
    """A client's picture of one board, by what it is sent."""

    def __init__(self, client: MemoryClient, board: str) -> None:
        self.client, self.topic = client, f"board/{board}"
        self.picture: dict[str, Any] = {}
        self.cursor = ""
        self.frames: list[list[Any]] = []

    async def watch(self) -> dict[str, Any]:
        answer = await self.client.ask(WatchLatest, self.topic)
        assert answer[0] == "snapshot", answer
        self.cursor, self.picture = answer[3], dict(answer[4])
        return self.picture

    def take(self, frame: list[Any]) -> None:
        assert frame[:2] == ["latest", self.topic], frame
        self.frames.append(frame)
        _, _, self.cursor, whole, items = frame
        if whole:
            self.picture = {}
        for key, value in items:
            if value is None:
                self.picture.pop(key, None)
            else:
                self.picture[key] = value

    async def shows(self, wanted: dict[str, str]) -> None:
        """Take frames until the picture is `wanted`."""
        async with asyncio.timeout(10):
            while self.picture != wanted:
                self.take(await self.client.until(lambda message: message[0] == "latest"))

    async def quiet(self, for_s: float = 0.1) -> None:
        """No frame comes."""
        frames: list[list[Any]] = []
        try:
            async with asyncio.timeout(for_s):
                frames.append(await self.client.until(lambda message: message[0] == "latest"))
        except TimeoutError:
            pass
        assert frames == []


async def joined(world: World, node: str, subject: str, role: str = "service", **fields: Any) -> MemoryClient:
    client = world.client(node, subject, role, str(fields.pop("format", "msgpack")))
    assert (await client.hello(**fields))[0] == "welcome"
    return client


async def resumed(world: World, viewer: Viewer, node: str, seen: bool) -> Viewer:
    """The viewer's client on a new connection; it says which picture it has if `seen`."""
    old = viewer.client
    assert old.welcome is not None
    client = world.client(node, old.subject, old.role, old.format)
    latest = [[viewer.topic, viewer.cursor]] if seen else []
    answer = await client.hello(resume=old.welcome.resume, latest=latest)
    assert answer[0] == "welcome" and answer[7] is True, answer
    again = Viewer(client, viewer.topic.removeprefix("board/"))
    again.picture, again.cursor = dict(viewer.picture) if seen else {}, viewer.cursor
    return again


def board_of(world: World, node: str) -> str:
    system = next(iter(world.nodes.values())).system
    for number in range(1_000):
        owner = system.owner(ActorId(f"board/b{number}"))
        if owner is not None and owner.node == node:
            return f"b{number}"
    raise AssertionError


def topics(world: World, node: str) -> dict[str, Any]:
    return world.nodes[node].gateway.latest.topics  # type: ignore[return-value]


@pytest.mark.parametrize("format", ["msgpack", "json"])
@pytest.mark.parametrize("actor_at", NODES)
async def test_a_watcher_gets_a_snapshot_and_then_what_changes(format: str, actor_at: str) -> None:
    async with gateways(NODES, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, actor_at)
        setter = await joined(world, "node-2", "s")
        await setter.ask(Light, board, {"a": "red", "é": "blue"})
        viewer = Viewer(await joined(world, "node-1", "v", format=format), board)
        assert await viewer.watch() == {"a": "red", "é": "blue"}
        await setter.ask(Light, board, {"a": "green", "é": None, "c": "white"})
        await viewer.shows({"a": "green", "c": "white"})
        assert [frame[3] for frame in viewer.frames] == [False]
        assert (await viewer.client.ask(Unwatch, f"board/{board}"))[0] == "done"
        await setter.ask(Light, board, {"a": "black"})
        await viewer.quiet()
        assert topics(world, "node-1") == {}


async def test_a_watcher_that_comes_before_the_actor_sees_its_first_change() -> None:
    async with gateways(NODES, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, "node-2")
        viewer = Viewer(await joined(world, "node-1", "v"), board)
        assert await viewer.watch() == {}
        setter = await joined(world, "node-1", "s")
        await setter.ask(Light, board, {"a": "red"})
        await viewer.shows({"a": "red"})


async def test_changes_within_a_tick_are_one_frame_with_the_newest_encoded_once() -> None:
    async with gateways(gateway={"latest_tick_ms": 500}) as world:
        viewers = [Viewer(await joined(world, "node-1", f"v{number}"), "b") for number in range(3)]
        for viewer in viewers:
            await viewer.watch()
        setter = await joined(world, "node-1", "s")
        raw: list[bytes] = []
        for viewer in viewers:
            connection = viewer.client.end.connection
            send: Callable[[bytes], None] = connection.send
            connection.send = lambda data, send=send: (raw.append(data), send(data))  # type: ignore[method-assign,misc]
        for color in ("red", "green", "blue"):
            await setter.ask(Light, "b", {"a": color})
        for viewer in viewers:
            await viewer.shows({"a": "blue"})
            assert len(viewer.frames) == 1
        assert len(raw) == 3 and all(frame is raw[0] for frame in raw)


async def test_a_turn_that_fails_publishes_nothing() -> None:
    async with gateways(gateway=QUICK) as world:
        viewer = Viewer(await joined(world, "node-1", "v"), "b")
        await viewer.watch()
        setter = await joined(world, "node-1", "s")
        assert (await setter.ask(Light, "b", {"a": "red"}, True))[2] == "planted"
        await viewer.quiet()
        await setter.ask(Light, "b", {"c": "blue"})
        await viewer.shows({"c": "blue"})


async def test_a_slow_reader_gets_fewer_and_newer_and_never_a_wrong_one() -> None:
    async with gateways(gateway={**QUICK, "rate_burst": 10_000, "rate_per_s": 10_000}) as world:
        viewer = Viewer(await joined(world, "node-1", "v"), "b")
        await viewer.watch()
        setter = await joined(world, "node-1", "s")
        viewer.client.end.stall()
        newest: dict[str, str] = {}
        for number in range(150):
            newest = {f"k{key}": f"{number} " + "x" * 2_000 for key in range(3)}
            await setter.ask(Light, "b", newest)
            await asyncio.sleep(0.02)
        (session,) = (
            each for each in world.nodes["node-1"].gateway.table.sessions.values() if each.caller.subject == "v"
        )
        assert not session.takes_latest and len(session.outbox) == 0
        viewer.client.end.read_on()
        await viewer.shows(newest)
        assert 1 <= len(viewer.frames) < 75
        numbers = [int(dict(frame[4])["k0"].split()[0]) for frame in viewer.frames]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("seen", [False, True])
async def test_a_resumed_watcher_gets_the_newest_that_it_does_not_have(seen: bool) -> None:
    async with gateways(gateway=QUICK) as world:
        setter = await joined(world, "node-1", "s")
        await setter.ask(Light, "b", {"a": "red", "b": "red"})
        viewer = Viewer(await joined(world, "node-1", "v"), "b")
        await viewer.watch()
        viewer.client.end.drop()
        for color in ("green", "blue"):
            await setter.ask(Light, "b", {"a": color})
            await asyncio.sleep(0.05)
        again = await resumed(world, viewer, "node-1", seen)
        await again.shows({"a": "blue", "b": "red"})
        (frame,) = again.frames
        assert (frame[3], len(frame[4])) == (not seen, 1 if seen else 2)


async def test_a_resumed_watcher_that_has_the_newest_gets_nothing() -> None:
    async with gateways(gateway=QUICK) as world:
        setter = await joined(world, "node-1", "s")
        await setter.ask(Light, "b", {"a": "red"})
        viewer = Viewer(await joined(world, "node-1", "v"), "b")
        await viewer.watch()
        viewer.client.end.drop()
        again = await resumed(world, viewer, "node-1", seen=True)
        await again.quiet()
        await setter.ask(Light, "b", {"a": "blue"})
        await again.shows({"a": "blue"})


async def test_a_cursor_of_another_picture_is_answered_with_everything() -> None:
    async with gateways(gateway=QUICK) as world:
        setter = await joined(world, "node-1", "s")
        await setter.ask(Light, "b", {"a": "red"})
        viewer = Viewer(await joined(world, "node-1", "v"), "b")
        await viewer.watch()
        viewer.client.end.drop()
        for cursor in ("", "nonsense", "node-1-1-1:99", "node-1-1-1:-1", "node-9-1-1:1", ":"):
            viewer.cursor = cursor
            viewer.picture = {"wrong": "x"}
            again = await resumed(world, viewer, "node-1", seen=True)
            await again.shows({"a": "red"})
            viewer = again
            again.client.end.drop()


async def test_the_picture_follows_an_actor_that_moves_to_another_node() -> None:
    async with gateways(NODES, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, "node-2")
        viewer, setter = Viewer(await joined(world, "node-1", "v"), board), await joined(world, "node-1", "s")
        await setter.ask(Light, board, {"a": "red"})
        await viewer.watch()
        for colour, leaving in (("green", ["node-2"]), ("blue", []), ("white", ["node-2"])):
            world.show(*NODES, leaving=leaving)
            home = "node-1" if leaving else "node-2"
            await until(lambda home=home: world.nodes[home].system.find(ActorId(f"board/{board}")) is not None)  # type: ignore[misc]
            await setter.ask(Light, board, {"a": colour, "b": colour})
            await viewer.shows({"a": colour, "b": colour})


async def test_the_picture_of_an_actor_whose_node_dies_becomes_that_of_its_successor() -> None:
    async with gateways(NODES, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, "node-2")
        viewer, setter = Viewer(await joined(world, "node-1", "v"), board), await joined(world, "node-1", "s")
        await setter.ask(Light, board, {"a": "red"})
        await viewer.watch()
        node = world.nodes.pop("node-2")
        await node.listener.stop()
        await world.cluster.remove("node-2")
        world.show("node-1")
        await viewer.shows({})  # it is volatile: nothing of it is left
        await setter.ask(Light, board, {"b": "blue"})
        await viewer.shows({"b": "blue"})


async def test_differences_that_are_lost_between_nodes_are_made_good() -> None:
    async with gateways(NODES, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, "node-2")
        viewer, setter = Viewer(await joined(world, "node-1", "v"), board), await joined(world, "node-2", "s")
        await viewer.watch()
        watching, owner = world.nodes["node-1"].system.me, world.nodes["node-2"].system.me
        for last in (True, False):  # noticed by the next difference, or by the next renewal
            world.cluster.network.split({watching}, {owner})
            await setter.ask(Light, board, {"a": f"lost {last}"})
            world.cluster.network.heal()
            if last:
                await setter.ask(Light, board, {"b": "next"})
            await viewer.shows({"a": f"lost {last}", "b": "next"})


async def test_a_late_difference_of_the_node_before_changes_nothing() -> None:
    async with gateways(NODES, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, "node-2")
        viewer, setter = Viewer(await joined(world, "node-1", "v"), board), await joined(world, "node-2", "s")
        await setter.ask(Light, board, {"a": "red"})
        await viewer.watch()
        owner, network = world.nodes["node-2"].system.me, world.cluster.network
        whole = network.delay
        network.delay = lambda frm, to: 0.6 if frm == owner else whole(frm, to)
        await setter.ask(Light, board, {"a": "late"})
        network.delay = whole
        world.nodes["node-1"].gateway.latest.arrived(ActorId(f"board/{board}"), (5, 1), "a", b"\xa3new")
        await viewer.shows({"a": "new"})
        await asyncio.sleep(0.3)
        assert viewer.picture == {"a": "new"}


@pytest.mark.parametrize("seen", [False, True])
async def test_a_session_takes_its_latest_topics_along_to_another_node(seen: bool) -> None:
    async with gateways(NODES, gateway=QUICK, limits=AT_ONCE) as world:
        setter = await joined(world, "node-2", "s")
        board = board_of(world, "node-2")
        await setter.ask(Light, board, {"a": "red"})
        player = world.player_of("node-2")
        world.show(*NODES, leaving=["node-2"])
        viewer = Viewer(await joined(world, "node-1", player, "player"), board)
        await viewer.watch()
        world.show(*NODES)
        going = await viewer.client.until(lambda message: message[0] == "going")
        assert topics(world, "node-1") == {}
        await setter.ask(Light, board, {"a": "blue"})
        assert viewer.client.welcome is not None
        client = world.client("node-2", player)
        latest = [[viewer.topic, viewer.cursor]] if seen else []
        assert (await client.hello(resume=viewer.client.welcome.resume, ack=going[1], latest=latest))[7] is True
        again = Viewer(client, board)
        await again.shows({"a": "blue"})
        assert again.frames[0][3] is True


async def test_latest_topics_and_streams_share_one_bound() -> None:
    async with gateways(gateway={"max_subscriptions": 2}) as world:
        client = await joined(world, "node-1", "v")
        assert (await client.ask(Watch, "ledger/f"))[0] == "watching"
        assert (await client.ask(WatchLatest, "board/a"))[0] == "snapshot"
        assert (await client.ask(WatchLatest, "board/b"))[2] == "too_many_subscriptions"
        assert (await client.ask(Watch, "ledger/g"))[2] == "too_many_subscriptions"
        assert (await client.ask(WatchLatest, "board/a"))[0] == "snapshot"
        assert (await client.ask(WatchLatest, "ledger/f"))[2] == "not_found"
        assert (await client.ask(WatchLatest, "pilot/p"))[2] == "not_found"
        assert (await client.ask(WatchLatest, "no topic"))[2] == "bad_input"
        assert (await client.ask(Unwatch, "ledger/f"))[0] == "done"
        assert (await client.ask(WatchLatest, "board/b"))[0] == "snapshot"


async def test_values_have_a_bound() -> None:
    async with gateways(gateway=QUICK) as world:
        viewer = Viewer(await joined(world, "node-1", "v"), "b")
        await viewer.watch()
        setter = await joined(world, "node-1", "s")
        assert (await setter.ask(Light, "b", {"a": "x" * 5_000}))[2] == "internal"
        assert (await setter.ask(Light, "b", {"k" * 200: "x"}))[2] == "internal"
        await setter.ask(Light, "b", {"a": "small"})
        await viewer.shows({"a": "small"})


async def test_a_topic_whose_actor_cannot_be_reached_is_an_error_and_leaves_nothing() -> None:
    async with gateways(NODES, gateway=QUICK, actors={"call_timeout_s": 0.2}) as world:
        board = board_of(world, "node-2")
        world.cluster.network.split({world.nodes["node-1"].system.me}, {world.nodes["node-2"].system.me})
        client = await joined(world, "node-1", "v")
        assert (await client.ask(WatchLatest, f"board/{board}"))[0] == "error"
        assert topics(world, "node-1") == {}


async def test_watchers_that_end_leave_nothing_behind() -> None:
    async with gateways(gateway=QUICK) as world:
        viewer = Viewer(await joined(world, "node-1", "v"), "b")
        await viewer.watch()
        viewer.client.end.close(1000)
        await until(lambda: topics(world, "node-1") == {})
