"""The SDK's streams: each event once and in order over reconnects, gaps and slow readers."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

import garrison
from garrison.errors import BadInput, Forbidden, NotFound
from garrison.messages import Ended, Kill
from tests.support.sdk import FAST, Talk, scripted, until


def kills(first: int, last: int) -> list[list[Any]]:
    """Wire events whose time is their number."""
    return [["kill", number, "p1", "p2"] for number in range(first, last + 1)]


async def numbers(watch: garrison.Watch, count: int) -> list[int]:
    """The next event numbers, checked against the events' own."""
    seen = []
    async with asyncio.timeout(30):
        while len(seen) < count:
            number, event = await anext(watch)
            assert isinstance(event, Kill) and event.time_ms == number
            seen.append(number)
    return seen


async def test_events_are_typed_and_in_order() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("watch")
        await talk.send("watching", asked[1], "match/m1", 3)
        await talk.send("events", 1, "match/m1", 1, kills(1, 2))
        await talk.send("events", 2, "match/m1", 3, [["ended", 9, "score", "p1", 0], ["new.event", 1, 2]])
        await talk.idle()

    async with (
        scripted(script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        client.watch("match/m1") as events,
    ):
        assert await numbers(events, 2) == [1, 2]
        assert await anext(events) == (3, Ended(9, "score", "p1", 0))
        number, unknown = await anext(events)
        assert number == 4 and unknown.to_wire() == ["new.event", 1, 2]


async def test_a_new_session_is_watched_from_the_cursor_and_repetitions_are_dropped() -> None:
    asked: list[list[Any]] = []

    async def first(talk: Talk) -> None:
        await talk.welcome()
        asked.append(await talk.expect("watch"))
        await talk.send("watching", asked[-1][1], "match/m1", 4)
        await talk.send("events", 1, "match/m1", 1, kills(1, 3))
        await talk.expect("match.get")
        talk.drop()

    async def second(talk: Talk) -> None:
        await talk.welcome()
        asked.append(await talk.expect("watch"))
        await talk.send("watching", asked[-1][1], "match/m1", 6)
        await talk.send("events", 1, "match/m1", 2, kills(2, 4))
        await talk.send("events", 2, "match/m1", 5, kills(5, 5))
        await talk.idle()

    async with scripted(first, second) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        events = client.watch("match/m1")
        assert await numbers(events, 3) == [1, 2, 3]
        asking = asyncio.ensure_future(client.scoreboard("m1"))
        assert await numbers(events, 2) == [4, 5]
        asking.cancel()
        assert [wire[2:4] for wire in asked] == [["match/m1", 1], ["match/m1", 4]]
        assert events.repeated == 2


async def test_a_watch_that_the_server_ends_fails_after_what_came_before() -> None:
    asked: list[list[Any]] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        first = await talk.expect("watch")
        await talk.send("watching", first[1], "match/m1", 3)
        await talk.send("watch_ended", 1, "match/other", "forbidden")
        await talk.send("events", 2, "match/m1", 1, kills(1, 2))
        await talk.send("watch_ended", 3, "match/m1", "forbidden")
        asked.append(await talk.expect("watch"))
        await talk.send("watch_ended", 4, "match/m1", "forbidden")  # of the watch before
        await talk.send("watching", asked[0][1], "match/m1", 4)
        await talk.send("events", 5, "match/m1", 3, kills(3, 3))
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        async with client.watch("match/m1") as events:
            assert await numbers(events, 2) == [1, 2]
            with pytest.raises(Forbidden, match="match/m1"):
                await anext(events)
            last = events.next_seq
        async with client.watch("match/m1", last) as again:
            assert await numbers(again, 1) == [3]
        assert asked[0][2:4] == ["match/m1", 3]


async def test_a_resumed_session_goes_on_without_asking() -> None:
    async def first(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("watch")
        await talk.send("watching", asked[1], "match/m1", 2)
        await talk.send("events", 1, "match/m1", 1, kills(1, 1))
        await talk.expect("match.get")
        talk.drop()

    async def second(talk: Talk) -> None:
        await talk.welcome(recovered=True)
        await talk.send("events", 2, "match/m1", 2, kills(2, 3))
        while True:
            assert (await talk.recv())[0] != "watch"

    async with scripted(first, second) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        events = client.watch("match/m1")
        assert await numbers(events, 1) == [1]
        asking = asyncio.ensure_future(client.scoreboard("m1"))
        assert await numbers(events, 2) == [2, 3]
        asking.cancel()


async def test_a_gap_is_asked_for_again() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("watch")
        await talk.send("watching", asked[1], "match/m1", 9)
        await talk.send("events", 1, "match/m1", 1, kills(1, 1))
        await talk.send("events", 2, "match/m1", 3, kills(3, 3))
        asked = await talk.expect("watch")
        assert asked[3] == 2
        await talk.send("events", 3, "match/m1", 4, kills(4, 4))  # still of the old subscription
        await talk.send("watching", asked[1], "match/m1", 9)
        await talk.send("events", 4, "match/m1", 2, kills(2, 4))
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        events = client.watch("match/m1")
        assert await numbers(events, 4) == [1, 2, 3, 4]
        assert events.gaps == 1


async def test_a_slow_reader_pauses_and_loses_nothing() -> None:
    asked: list[int] = []
    pushed = 0

    async def script(talk: Talk) -> None:
        nonlocal pushed
        await talk.welcome()
        while True:
            wire = await talk.recv()
            if wire[0] == "unwatch":
                await talk.send("done", wire[1])
            if wire[0] == "watch":
                asked.append(wire[3])
                await talk.send("watching", wire[1], "match/m1", 101)
                for number in range(wire[3], min(wire[3] + 40, 101), 5):
                    pushed += 1
                    await talk.send("events", pushed, "match/m1", number, kills(number, min(number + 4, 100)))

    options = replace(FAST, watch_buffer=16)
    async with scripted(script) as server, garrison.connect(server.url, "tok", options=options) as client:
        events = client.watch("match/m1")
        await until(lambda: events.paused)
        assert await numbers(events, 100) == list(range(1, 101))
        assert len(asked) > 3
        assert client.connected


async def test_a_refused_watch_raises_after_what_came() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        for code in ("unavailable", "not_found"):
            asked = await talk.expect("watch")
            await talk.send("error", asked[1], code, "", 1)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        with pytest.raises(NotFound):
            await anext(client.watch("match/m1"))


async def test_leaving_a_watch_unwatches_and_frees_the_topic() -> None:
    left: list[str] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        for _ in range(2):
            asked = await talk.expect("watch")
            await talk.send("watching", asked[1], "match/m1", 1)
            left.append((await talk.expect("unwatch"))[2])
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        for round_ in (1, 2):
            async with client.watch("match/m1") as events:
                await until(lambda watch=events: not watch.asking)  # type: ignore[misc]
                with pytest.raises(ValueError, match="watched already"):
                    client.watch("match/m1")
            await until(lambda count=round_: len(left) == count)  # type: ignore[misc]


async def test_a_latest_topic_is_read_as_newest_pictures() -> None:
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("watch_latest")
        await talk.send("snapshot", asked[1], asked[2], "c1", [["a", 1]])
        await go.wait()
        await talk.send("latest", "room/7", "c2", False, [["b", 2]])
        await talk.send("latest", "room/7", "c3", False, [["a", None]])
        asked = await talk.expect("unwatch")
        await talk.send("done", asked[1])
        asked = await talk.expect("watch_latest")
        await talk.send("error", asked[1], "not_found", "no such room", None)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        async with client.watch_latest("room/7") as room:
            assert room.values == {}
            assert await anext(room) == {"a": 1}
            go.set()
            while await anext(room) != {"b": 2}:
                pass
            assert room.values == {"b": 2}
            reading = asyncio.ensure_future(anext(room))
            await asyncio.sleep(0)
        with pytest.raises(StopAsyncIteration):
            await reading
        with pytest.raises(NotFound, match="no such room"):
            await anext(client.watch_latest("room/7"))


async def test_an_equal_picture_that_comes_whole_again_is_no_change() -> None:
    """As after a reconnection at another node, which knows nothing of what the client has."""
    cut, again, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("watch_latest")
        if not cut.is_set():
            await talk.send("snapshot", asked[1], asked[2], "c1", [["a", 1], ["b", 2]])
            await cut.wait()
            await talk.close(1001)
            return
        await talk.send("snapshot", asked[1], asked[2], "other-1", [["b", 2], ["a", 1]])
        again.set()
        await go.wait()
        await talk.send("latest", "room/7", "other-2", True, [["a", 1]])
        await talk.idle()

    async with (
        scripted(script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        client.watch_latest("room/7") as room,
    ):
        assert await anext(room) == {"a": 1, "b": 2}
        reading = asyncio.ensure_future(anext(room))
        cut.set()
        await again.wait()
        await until(lambda: not room.asking)
        assert not reading.done()
        go.set()
        assert await reading == {"a": 1}


async def test_a_watch_that_is_left_ends_its_readers() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("watch")
        await talk.send("watching", asked[1], "match/m1", 2)
        await talk.send("events", 1, "match/m1", 1, kills(1, 1))
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        events = client.watch("match/m1")
        assert (events.topic, events.next_seq, events.closed) == ("match/m1", 1, False)
        seen: list[int] = []

        async def read() -> None:
            async for number, _ in events:
                seen.append(number)

        reading = asyncio.ensure_future(read())
        await until(lambda: seen == [1])
        assert events.next_seq == 2
        await events.aclose()
        await events.aclose()
        await reading
        assert events.closed and client._watches == {}


async def test_a_topic_that_cannot_be_sent_is_an_error_at_once() -> None:
    client = garrison.connect("ws://localhost", "tok", options=FAST)
    for topic, from_seq in (("match/\ud800", 1), ("match/m1", 2**64)):
        for _ in range(2):  # it is not held for watched
            with pytest.raises(BadInput, match="Watch cannot be sent"):
                client.watch(topic, from_seq)


async def watched_and_dropped(talk: Talk) -> None:
    """A server whose connection breaks on a `match.get`, while match m1 is watched."""
    await talk.welcome()
    asked = await talk.expect("watch")
    await talk.send("watching", asked[1], "match/m1", 1)
    await talk.expect("match.get")
    talk.drop()


async def close_while_away(client: garrison.Client, closed: asyncio.Event) -> "asyncio.Future[object]":
    """Watch m1, lose the connection, and close the watch before the next one; the `match.get`, which
    is repeated."""
    events = client.watch("match/m1")
    await until(lambda: not events.asking)
    asking = asyncio.ensure_future(client.request(garrison.messages.MatchGet("m1"), retry=True))
    await until(lambda: not client.connected)
    await events.aclose()
    closed.set()
    return asking


async def test_a_watch_closed_while_away_is_unwatched_after_resuming() -> None:
    left: list[str] = []
    closed = asyncio.Event()

    async def second(talk: Talk) -> None:
        await closed.wait()
        await talk.welcome(recovered=True)
        asked = await talk.expect("unwatch")
        left.append(asked[2])
        await talk.send("done", asked[1])
        asked = await talk.recv()
        left.append(asked[0])
        talk.drop()

    async def third(talk: Talk) -> None:
        await talk.welcome(recovered=True)
        left.append((await talk.recv())[0])
        await talk.idle()

    async with (
        scripted(watched_and_dropped, second, third) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
    ):
        asking = await close_while_away(client, closed)
        await until(lambda: len(left) == 3)
        asking.cancel()
        assert left == ["match/m1", "match.get", "match.get"]  # once, as it was answered


async def test_a_new_session_has_nothing_to_unwatch() -> None:
    closed = asyncio.Event()
    asked: list[str] = []

    async def second(talk: Talk) -> None:
        await closed.wait()
        await talk.welcome()
        asked.append((await talk.recv())[0])
        await talk.idle()

    async with (
        scripted(watched_and_dropped, second) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
    ):
        asking = await close_while_away(client, closed)
        await until(lambda: len(asked) == 1)
        asking.cancel()
        assert asked == ["match.get"]


async def test_an_unwatch_that_a_moving_session_refused_is_said_again_after_the_move() -> None:
    left: list[str] = []

    async def first(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("watch")
        await talk.send("watching", asked[1], "match/m1", 1)
        asked = await talk.expect("unwatch")
        await talk.send("error", asked[1], "unavailable", "", 50)
        await talk.send("going", 1, "", 50)
        await talk.idle()

    async def second(talk: Talk) -> None:
        await talk.welcome(recovered=True)
        left.append((await talk.expect("unwatch"))[2])
        await talk.idle()

    async with scripted(first, second) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        events = client.watch("match/m1")
        await until(lambda: not events.asking)
        await events.aclose()
        await until(lambda: left == ["match/m1"])


async def test_events_that_nobody_watches_are_unwatched_once() -> None:
    left: list[list[Any]] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        for seq in (1, 2, 3):
            await talk.send("events", seq, "match/m1", seq, kills(seq, seq))
        while (asked := await talk.recv())[0] != "match.get":
            left.append(asked)
        await talk.send("error", left[-1][1], "unavailable", "", 1)
        await talk.send("events", 4, "match/m1", 4, kills(4, 4))
        left.append(await talk.expect("unwatch"))
        await talk.send("done", left[-1][1])
        await talk.send("events", 5, "match/m1", 5, kills(5, 5))
        left.append(await talk.expect("unwatch"))
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        await until(lambda: client.stats.pushes == 3)
        asking = asyncio.ensure_future(client.scoreboard("m1"))
        await until(lambda: len(left) == 3)
        asking.cancel()
        assert [asked[::2] for asked in left] == [["unwatch", "match/m1"]] * 3


async def test_a_topic_that_is_watched_anew_is_not_unwatched() -> None:
    asked: list[list[Any]] = []

    async def first(talk: Talk) -> None:
        await talk.welcome()
        await talk.send("events", 1, "match/m1", 1, kills(1, 1))
        asked.append(await talk.recv())
        asked.append(await talk.recv())
        await talk.send("error", asked[0][1], "unavailable", "", 1)
        await talk.send("watching", asked[1][1], "match/m1", 2)
        await talk.send("events", 2, "match/m1", 1, kills(1, 1))
        asked.append(await talk.recv())
        talk.drop()

    async def second(talk: Talk) -> None:
        await talk.welcome(recovered=True)
        asked.append(await talk.recv())
        await talk.idle()

    async with scripted(first, second) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        await until(lambda: client.stats.pushes == 1)
        events = client.watch("match/m1")
        assert await numbers(events, 1) == [1]
        asking = asyncio.ensure_future(client.request(garrison.messages.MatchGet("m1"), retry=True))
        await until(lambda: len(asked) == 4)
        asking.cancel()
        assert [wire[0] for wire in asked] == ["unwatch", "watch", "match.get", "match.get"]
