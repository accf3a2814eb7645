"""Replays of stored logs to clients, on virtual time: pace, control, sharing, bounds, damage and ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from server.actors.actor import Caller, remote
from server.actors.replaying import ReplayKind
from server.errors import UnknownRules
from server.eventlog.entry import Record
from server.eventlog.ports import Chunk
from server.ids import ActorId
from server.wire.messages import Ack, ReplayClose, ReplayControl, ReplayOpen
from tests.support.gateways import LAST, Feed, MemoryClient, Post, Posted, Said, SessionApp, Total, World, gateways
from tests.support.successions import Succession
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time
TAPE = ActorId("ledger/tape")
PUSHES = ("replay.scene", "replay.events", "replay.gap", "replay.state", "replay.ended")


class Scene(msgspec.Struct, array_like=True, frozen=True):
    key: str
    total: int
    next_seq: int


class Tape(Feed):
    """A feed whose posts say when they are, as `1500 text` does, and that is not for strangers."""

    __slots__ = ()

    def activated(self) -> None:
        self.delay_watching(Delay.of_tape_s)

    def lags(self, caller: Caller) -> bool:
        return caller.role != "host"

    @remote
    def post(self, caller: Caller, message: Post) -> Said:
        for text in message.texts:
            at, _, said = text.partition(" ")
            self.emit(Posted(int(at), said))
        return Said(message.id, "posted")

    def may_watch(self, caller: Caller) -> bool:
        return not caller.subject.startswith("stranger")

    @staticmethod
    def evolve(state: Total, record: Record) -> Total:
        if record.event.text == "by rules 9":
            raise UnknownRules("played by rules 9")
        return Feed.evolve(state, record)


class Delay:
    """The clock up to which others than hosts see a tape; None: all of it. `of_tape_s`: its own delay."""

    until_ms: int | None = None
    of_tape_s = 0.0


def public_until_ms(state: Any, caller: Caller, wall_ms: int) -> int | None:
    return None if caller.role == "host" else Delay.until_ms


SHOWN = ReplayKind(
    lambda key, state, next_seq: Scene(key, state.total, next_seq),
    lambda event: [event.text] if event.text.startswith("p") else [],
    public_until_ms,
)
TapeApp = msgspec.structs.replace(
    SessionApp, actors=(SessionApp.actors[0], Tape, *SessionApp.actors[2:]), replays={"ledger": SHOWN}
)


class Viewer:
    """A client with its replay pushes."""

    def __init__(self, client: MemoryClient) -> None:
        self.client = client
        self.last = 0
        self.acks = True

    async def ask(self, cls: type[Any], *fields: Any) -> list[Any]:
        number = next(self.client.numbers)
        await self.client.send(cls(number, *fields))
        while True:
            message = await self.client.receive()
            if message[0] not in PUSHES and message[1] == number:
                return message
            self.client.seen.append(message)

    async def next(self) -> list[Any]:
        """The next push of a replay: its type, and what follows its sequence number and the replay's."""
        message = self.client.seen.pop(0) if self.client.seen else await self.client.receive()
        self.last = message[1]
        if self.acks:
            await self.client.send(Ack(0, self.last))
        return [message[0], *message[3:]]

    async def events(self, until_text: str) -> list[tuple[float, int, str]]:
        """Events up to one of that text: the loop's time when each came, its number and its text."""
        loop, found = asyncio.get_running_loop(), list[tuple[float, int, str]]()
        while not any(text == until_text for _, _, text in found):
            push = await self.next()
            if push[0] == "replay.events":
                found += [(loop.time(), number, event[2]) for number, event in push[2]]
        return found


@asynccontextmanager
async def taped(*texts: str, over: bool = True, **settings: Any) -> AsyncIterator[World]:
    """A node with a stored tape of these posts."""
    Delay.until_ms = None
    settings.setdefault("store", {"segment_entries": 8})
    async with gateways(app=TapeApp, **settings) as world:
        host = world.client("node-1", "h", "host")
        await host.hello()
        for text in (*texts, *([f"{texts[-1].partition(' ')[0]} {LAST}"] if over else [])):
            assert (await host.ask(Post, "tape", [text]))[0] == "said"
        logs = world.cluster.database.entities
        if over:
            await until(lambda: all(chunk.sealed for chunk in logs[TAPE].chunks))
        yield world


async def viewer(world: World, subject: str = "v", format: str = "msgpack", node: str = "node-1") -> Viewer:
    client = world.client(node, subject, "service", format)
    assert (await client.hello())[0] == "welcome"
    return Viewer(client)


SECONDS = [f"{second * 1000} e{second}" for second in range(20)]


async def test_events_come_at_the_pace_of_the_log_and_of_its_speed() -> None:
    async with taped(*SECONDS) as world:
        for speed, took in ((100, 5.0), (400, 1.25), (50, 10.0)):
            watching = await viewer(world, f"v{speed}")
            status = await watching.ask(ReplayOpen, 1, TAPE, 0, 0, speed)
            assert status[0] == "replay.status" and status[3:] == [0, speed, True, 1, 22, 19_000, True]
            assert await watching.next() == ["replay.scene", 1, 0, ["tape", 0, 1]]
            began = asyncio.get_running_loop().time()
            found = await watching.events("e5")
            assert [(number, text) for _, number, text in found] == [(n + 1, f"e{n}") for n in range(6)]
            for came, number, _ in found:
                assert 0 <= came - began - (number - 1) * took / 5 < 0.25


async def test_pause_seek_and_speed_both_ways_with_a_scene_after_each_seek() -> None:
    async with taped(*SECONDS) as world:
        watching = await viewer(world)
        await watching.ask(ReplayOpen, 7, TAPE, 10_000, 0, 100, False)
        assert await watching.next() == ["replay.scene", 11, 10_000, ["tape", 10, 11]]
        await asyncio.sleep(8)  # paused from the beginning
        back = await watching.ask(ReplayControl, 7, None, None, 2_500)
        assert back[3:7] == [2_500, 100, False, 4]
        assert await watching.next() == ["replay.scene", 4, 2_500, ["tape", 3, 4]]
        await watching.ask(ReplayControl, 7, True, 6_400)
        assert [text for _, _, text in await watching.events(LAST)] == [*(f"e{n}" for n in range(3, 20)), LAST]
        while (end := await watching.next())[0] != "replay.state":
            pass
        assert end == ["replay.state", 19_000, "end"]
        await watching.ask(ReplayControl, 7, True, None, 17_000)  # from the end, back
        assert (await watching.next())[:3] == ["replay.scene", 18, 17_000]
        assert [text for _, _, text in await watching.events(LAST)] == ["e17", "e18", "e19", LAST]


async def test_from_an_event_and_past_the_end() -> None:
    async with taped(*SECONDS) as world:
        watching = await viewer(world)
        status = await watching.ask(ReplayOpen, 1, TAPE, 0, 13)
        assert status[3:7] == [12_000, 100, True, 13]
        assert (await watching.next())[1:3] == [13, 12_000]
        assert [text for _, _, text in await watching.events("e14")] == ["e12", "e13", "e14"]
        status = await watching.ask(ReplayControl, 1, None, None, 99_000)
        assert (status[3], status[6]) == (19_000, 22)
        pushes = [await watching.next() for _ in range(2)]
        assert pushes == [["replay.scene", 22, 19_000, ["tape", 21, 22]], ["replay.state", 19_000, "end"]]
        assert (await watching.ask(ReplayOpen, 2, TAPE, 0, 23))[2] == "past_limit"


async def test_a_player_is_followed_and_events_that_name_nobody_are_for_all() -> None:
    texts = ["0 begin", "100 p1", "200 p2", "300 p1", "400 note", "500 p2"]
    async with taped(*texts) as world:
        watching = await viewer(world, format="json")
        await watching.ask(ReplayOpen, 1, TAPE, 0, 0, 6_400, True, "p1")
        assert [text for _, _, text in await watching.events(LAST)] == ["begin", "p1", "p1", "note", LAST]
        await watching.ask(ReplayControl, 1, True, None, 0, "")
        assert len(await watching.events(LAST)) == 7


async def test_many_viewers_of_one_log_share_its_decoding_also_when_they_come_at_once() -> None:
    async with taped(*SECONDS) as world:
        viewers = [await viewer(world, f"v{number}") for number in range(40)]
        opened = await asyncio.gather(*(each.ask(ReplayOpen, 1, TAPE, 0, 0, 6_400) for each in viewers))
        assert {status[0] for status in opened} == {"replay.status"}
        for each in viewers:
            assert len(await each.events(LAST)) == 21
        node = world.nodes["node-1"]
        segments = len(world.cluster.database.entities[TAPE].chunks)
        assert segments == 3
        assert node.metrics.replay_decodes_total == segments
        assert node.metrics.replay_decodes_shared_total >= 39 * segments
        assert node.metrics.replays == 40


async def test_a_cache_that_is_too_small_shows_all_the_same() -> None:
    async with taped(*SECONDS, replays={"cache_bytes": 64}) as world:
        watching = await viewer(world)
        await watching.ask(ReplayOpen, 1, TAPE, 0, 0, 6_400)
        assert len(await watching.events(LAST)) == 21
        reader = world.nodes["node-1"].gateway.log_reader
        assert reader.stretches.bytes == 0 and reader.stretches.made >= 3


async def test_a_slow_reader_is_stopped_is_told_and_goes_on_where_it_was() -> None:
    texts = [f"{number} {'x' * 400}{number}" for number in range(400)]
    async with taped(*texts, gateway={"outbox_max_bytes": 64 * 1024}, store={"segment_entries": 64}) as world:
        watching = await viewer(world)
        watching.acks = False
        await watching.ask(ReplayOpen, 1, TAPE, 0, 0, 25)
        numbers: list[int] = []
        while (push := await watching.next())[0] != "replay.state":
            numbers += [number for number, _ in push[2]] if push[0] == "replay.events" else []
        assert push[2] == "slow" and numbers
        sessions = world.nodes["node-1"].gateway.table.sessions.values()
        session = next(each for each in sessions if each.caller.subject == "v")
        held = session.outbox.bytes
        await asyncio.sleep(4)
        assert session.outbox.bytes == held <= 64 * 1024
        watching.acks = True
        await watching.client.send(Ack(0, watching.last))
        while numbers[-1] < 401:
            push = await watching.next()
            if push[0] == "replay.events":
                numbers += [number for number, _ in push[2]]
        assert numbers == list(range(1, 402))


async def test_bounds_of_a_session_and_of_a_node() -> None:
    async with taped(*SECONDS, replays={"max_per_session": 2, "max_here": 3}) as world:
        first, second = await viewer(world, "a"), await viewer(world, "b")
        for number in (1, 2, 1):  # opening a number again replaces it
            assert (await first.ask(ReplayOpen, number, TAPE))[0] == "replay.status"
        assert (await first.ask(ReplayOpen, 3, TAPE))[2] == "too_many_replays"
        assert (await second.ask(ReplayOpen, 1, TAPE))[0] == "replay.status"
        assert (await second.ask(ReplayOpen, 2, TAPE))[2] == "overloaded"
        assert (await first.ask(ReplayClose, 1))[0] == (await first.ask(ReplayClose, 1))[0] == "done"
        assert (await second.ask(ReplayOpen, 2, TAPE))[0] == "replay.status"
        assert (await first.ask(ReplayControl, 1, True))[2] == "not_found"
        metrics = world.nodes["node-1"].metrics
        assert metrics.replays == 3
        second.client.end.close(1000)
        await until(lambda: metrics.replays == 1)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ((1, "ledger/nothing"), "not_found"),
        ((1, "board/b"), "not_found"),
        ((1, "no topic"), "bad_input"),
        ((1, TAPE, 0, 0, 24), "bad_frame"),
        ((1, TAPE, 0, 0, 6_401), "bad_frame"),
        ((0, TAPE), "bad_frame"),
    ],
)
async def test_bad_requests_get_typed_errors_and_leave_nothing(fields: Any, code: str) -> None:
    async with taped(*SECONDS) as world:
        watching = await viewer(world)
        assert (await watching.ask(ReplayOpen, *fields))[2] == code
        assert world.nodes["node-1"].metrics.replays == 0


async def test_stranger_who_may_not_watch_may_not_replay() -> None:
    async with taped(*SECONDS) as world:
        stranger = await viewer(world, "stranger")
        assert (await stranger.ask(ReplayOpen, 1, TAPE))[2] == "forbidden"
        assert world.nodes["node-1"].metrics.replays == 0


async def test_a_log_of_unknown_rules_says_so() -> None:
    async with taped(*SECONDS) as world:
        entity = world.cluster.database.entities[TAPE]
        watching = await viewer(world)
        await watching.ask(ReplayOpen, 1, TAPE)
        await watching.events("e2")
        Feed.evolve, evolve = staticmethod(lambda state, record: _raise()), Feed.evolve  # type: ignore[method-assign,assignment]
        try:
            await watching.ask(ReplayControl, 1, True, 6_400)
            while (push := await watching.next())[0] != "replay.ended":
                pass
            assert push[3] == "unknown_rules" and entity.next_seq == 22
        finally:
            Feed.evolve = staticmethod(evolve)  # type: ignore[method-assign]


def _raise() -> Any:
    raise UnknownRules("played by rules 9")


def damage(world: World, place: int) -> Chunk:
    chunks = world.cluster.database.entities[TAPE].chunks
    chunk = chunks[place]
    chunks[place] = msgspec.structs.replace(chunk, data=chunk.data[:-3] + bytes([chunk.data[-3] ^ 1]) + chunk.data[-2:])
    return chunk


async def test_damaged_log_is_shown_as_far_as_it_can_be_read_and_its_gap_is_named() -> None:
    async with taped(*SECONDS) as world:
        damage(world, 1)
        watching = await viewer(world)
        await watching.ask(ReplayOpen, 1, TAPE, 0, 0, 6_400)
        pushes = []
        while (push := await watching.next())[:3:2] != ["replay.state", "end"]:
            pushes.append(push)
        shown = [number for push in pushes if push[0] == "replay.events" for number, _ in push[2]]
        assert shown == [*range(1, 9), *range(17, 22)]
        gap = next(place for place, push in enumerate(pushes) if push[0] == "replay.gap")
        assert pushes[gap][1:3] == [9, 16] and "checksum" in pushes[gap][3]
        assert pushes[gap + 1][:2] == ["replay.scene", 17] and pushes[gap + 1][3] == ["tape", 16, 17]
        # seeking into the gap begins after it, seeking back before it shows what is there
        await watching.ask(ReplayControl, 1, False, None, 6_000)
        assert (await watching.next())[:2] == ["replay.scene", 7]


async def test_a_log_that_is_cut_short_or_deleted_meanwhile_ends_its_replays() -> None:
    async with taped(*SECONDS) as world:
        cut, gone = await viewer(world, "a"), await viewer(world, "b")
        for each in (cut, gone):
            await each.ask(ReplayOpen, 1, TAPE, 0, 0, 100)
            await each.events("e2")
        entity = world.cluster.database.entities[TAPE]
        del entity.chunks[1:]
        entity.next_seq = 9
        await cut.ask(ReplayControl, 1, True, 6_400)
        while (push := await cut.next())[0] != "replay.ended":
            pass
        assert push[2:] == [9, "history_changed"]
        del world.cluster.database.entities[TAPE]
        await gone.ask(ReplayControl, 1, True, 6_400)
        while (push := await gone.next())[0] != "replay.ended":
            pass
        assert push[2:] == [9, "not_found"]


async def test_a_log_of_which_a_part_is_gone_names_that() -> None:
    async with taped(*SECONDS) as world:
        del world.cluster.database.entities[TAPE].chunks[0]
        watching = await viewer(world)
        await watching.ask(ReplayOpen, 1, TAPE, 0, 0, 6_400)
        assert await watching.next() == ["replay.gap", 1, 8, "events 1 to 8 are missing"]
        assert (await watching.next())[:2] == ["replay.scene", 9]
        assert (await watching.events(LAST))[0][1] == 9


async def test_a_log_that_goes_on_is_followed_and_one_that_ends_meanwhile_comes_to_its_end() -> None:
    async with taped("0 a", "1000 b", over=False) as world:
        watching = await viewer(world)
        status = await watching.ask(ReplayOpen, 1, TAPE)
        assert status[7:] == [3, 1_000, False]
        assert (await watching.ask(ReplayOpen, 2, TAPE, 5_000))[2] == "past_limit"
        assert [text for _, _, text in await watching.events("b")] == ["a", "b"]
        assert await watching.next() == ["replay.state", 1_000, "limit"]
        host = world.client("node-1", "h2", "host")
        await host.hello()
        await host.ask(Post, "tape", ["1500 c", f"2000 {LAST}"])
        assert [text for _, _, text in await watching.events(LAST)] == ["c", LAST]
        assert await watching.next() == ["replay.state", 2_000, "end"]


async def test_only_what_is_public_is_shown_and_more_as_it_becomes_public() -> None:
    async with taped(*SECONDS) as world:
        Delay.until_ms = 3_500
        watching = await viewer(world)
        status = await watching.ask(ReplayOpen, 1, TAPE, 0, 0, 6_400)
        assert status[7:] == [0, 3_500, False]
        assert [text for _, _, text in await watching.events("e3")] == ["e0", "e1", "e2", "e3"]
        assert await watching.next() == ["replay.state", 3_500, "limit"]
        assert (await watching.ask(ReplayControl, 1, None, None, 3_501))[2] == "past_limit"
        assert (await watching.ask(ReplayOpen, 2, TAPE, 0, 5))[2] == "past_limit"
        Delay.until_ms = 5_000
        assert [text for _, _, text in await watching.events("e5")] == ["e4", "e5"]
        host = world.client("node-1", "h3", "host")
        await host.hello()
        all_of_it = Viewer(host)
        assert (await all_of_it.ask(ReplayOpen, 1, TAPE, 12_000))[0] == "replay.status"
        Delay.until_ms = None


async def test_the_word_of_the_actor_counts_where_a_clock_would_show_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Delay, "of_tape_s", 5.0)
    async with taped("1 a", "2 b", over=False) as world:
        monkeypatch.setattr(Delay, "until_ms", 1_000_000)
        watching = await viewer(world)
        status = await watching.ask(ReplayOpen, 1, TAPE, 0, 1)
        assert (status[2] if status[0] == "error" else "shown") == "past_limit", "all of it was stored just now"
        await asyncio.sleep(5.5)
        host = world.client("node-1", "h4", "host")
        await host.hello()
        await host.ask(Post, "tape", ["2 c"])
        status = await watching.ask(ReplayOpen, 1, TAPE, 0, 1)
        assert status[7:] == [0, 1, False], "what is of the same moment as the newest event waits for a later one"
        assert [text for _, _, text in await watching.events("a")] == ["a"]
        assert await watching.next() == ["replay.state", 1, "limit"]
        await host.ask(Post, "tape", ["3 d"])
        begun = asyncio.get_running_loop().time()
        assert [text for _, _, text in await watching.events("c")] == ["b", "c"]
        assert 5.0 <= asyncio.get_running_loop().time() - begun <= 5.25 + 2 * 2.0 + 0.5


async def test_a_replay_ends_where_its_session_goes_to_another_node_and_its_client_is_told() -> None:
    Delay.until_ms = None
    async with gateways(("node-1", "node-2"), app=TapeApp, store={"segment_entries": 8}) as world:
        host = world.client("node-1", "h", "host")
        await host.hello()
        await host.ask(Post, "tape", [*SECONDS, f"20000 {LAST}"])
        player = world.player_of("node-2")
        client = world.client("node-2", player)
        assert (await client.hello())[0] == "welcome"
        watching = Viewer(client)
        await watching.ask(ReplayOpen, 1, TAPE, 0, 0)
        await watching.events("e2")
        world.show("node-1", "node-2", leaving=["node-2"])
        seen = []
        while (push := await watching.next())[0] != "going":
            seen.append(push)
        assert seen[-1][0] == "replay.ended" and seen[-1][2:] == [4, "moved"]
        assert world.nodes["node-2"].metrics.replays == 0


async def test_replays_go_over_to_another_process_with_their_session_where_they_are() -> None:
    async with taped(*SECONDS) as world:
        watching, paused = await viewer(world), await viewer(world, "w")
        await watching.ask(ReplayOpen, 1, TAPE)
        await watching.next()
        await paused.ask(ReplayOpen, 2, TAPE, 10_000, 0, 100, False)
        assert (await paused.next())[:2] == ["replay.scene", 11]
        began = asyncio.get_running_loop().time()
        await watching.events("e5")
        over = Succession(world, world.nodes["node-1"])
        over.copy_ahead()
        await watching.events("e6")
        over.rest()
        over.freeze()
        await over.go()
        found = await watching.events("e10")
        assert [text for _, _, text in found] == ["e7", "e8", "e9", "e10"]
        assert [round(came - began) for came, _, _ in found] == [7, 8, 9, 10]
        assert world.nodes["node-1"].metrics.replays == 2
        status = await paused.ask(ReplayControl, 2, True)
        assert status[3:6] == [10_000, 100, True]
        assert [text for _, _, text in await paused.events("e11")] == ["e10", "e11"]
        assert (await paused.ask(ReplayClose, 2))[0] == "done"
        assert world.nodes["node-1"].metrics.replays == 1
