"""The SDK's replays: controls, moments in order over reconnections, a reader that is slow, and ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

import garrison
from garrison.errors import Forbidden, NotFound, Rejected
from garrison.messages import Medal, ReplayedEvent, ReplayScene
from tests.support.sdk import FAST, Script, Talk, scripted


def events(seq: int, replay: int, *numbers: int) -> list[Any]:
    return ["replay.events", seq, replay, 0, [[number, ["medal", number, "p1", "m"]] for number in numbers]]


def event(number: int) -> ReplayedEvent:
    return ReplayedEvent(number, Medal(number, "p1", "m"))


async def opened(talk: Talk, next_seq: int = 1, seq: int = 1) -> list[Any]:
    """Answer the next `replay.open`, and say the scene."""
    asked = await talk.expect("replay.open")
    await answer(talk, asked, next_seq)
    await talk.send("replay.scene", seq, asked[2], next_seq, 0, ["scene", next_seq])
    return asked


async def answer(talk: Talk, asked: list[Any], next_seq: int = 1) -> None:
    await talk.send("replay.status", asked[1], asked[2], 0, 100, True, next_seq, 9, 8_000, True)


@asynccontextmanager
async def connected(*scripts: Script, **options: Any) -> AsyncIterator[garrison.Client]:
    async with (
        asyncio.timeout(10),
        scripted(*scripts) as server,
        garrison.connect(server.url, "tok", options=replace(FAST, **options)) as client,
    ):
        yield client


async def test_a_replay_opens_gives_its_moments_and_is_controlled_and_closed() -> None:
    said: list[list[Any]] = []
    closed = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.welcome()
        said.append(await opened(talk))
        await talk.send(*events(2, 1, 1, 2))
        await talk.send("replay.gap", 3, 1, 3, 4, "checksum")
        await talk.send("replay.state", 4, 1, 8_000, "end")
        while True:
            asked = await talk.recv()
            if asked[0].startswith("replay."):
                said.append(asked)
                if asked[0] == "replay.close":
                    closed.set()
                else:
                    await answer(talk, asked)

    async with connected(script) as client:
        async with client.replay("m1", from_ms=500, speed=2, follow="p1") as replay:
            assert (replay.status.end_seq, replay.status.end_ms) == (9, 8_000)
            scene = await anext(replay)
            assert isinstance(scene, ReplayScene) and scene.scene == ["scene", 1]
            assert [await anext(replay), await anext(replay)] == [event(1), event(2)]
            gap, end = await anext(replay), await anext(replay)
            assert (gap.why, end.why) == ("checksum", "end")  # type: ignore[union-attr]
            await replay.pause()
            await replay.play()
            await replay.set_speed(0.25)
            await replay.follow(None)
        with pytest.raises(StopAsyncIteration):
            await anext(replay)
        await closed.wait()
    assert [wire[2:] for wire in said] == [
        [1, "match/m1", 500, 0, 200, True, "p1"],
        [1, False, None, None, None],
        [1, True, None, None, None],
        [1, None, 25, None, None],
        [1, None, None, None, ""],
        [1],
    ]


async def test_after_a_lost_session_and_a_move_it_goes_on_at_the_next_event() -> None:
    asked: list[list[Any]] = []
    read = asyncio.Event()

    async def first(talk: Talk) -> None:
        await talk.welcome()
        await opened(talk)
        await talk.send(*events(2, 1, 1, 2, 3))
        await read.wait()
        talk.drop()

    async def second(talk: Talk) -> None:
        await talk.welcome()
        asked.append(await opened(talk, 4))
        await talk.send(*events(2, 7, 99))  # of a number that is none
        await talk.send(*events(3, 1, 4, 5))
        await talk.send("replay.ended", 4, 1, 0, 6, "moved")
        asked.append(await opened(talk, 6, 5))
        await talk.send(*events(6, 1, 6))
        await talk.send("replay.ended", 7, 1, 0, 7, "forbidden")
        await talk.idle()

    async with connected(first, second) as client, client.replay("ledger/tape") as replay:
        seen: list[garrison.Moment] = []
        with pytest.raises(Forbidden):
            while True:
                seen.append(await anext(replay))
                if seen[-1] == event(3):
                    read.set()
    assert [moment for moment in seen if isinstance(moment, ReplayedEvent)] == [event(n) for n in range(1, 7)]
    assert [moment.next_seq for moment in seen if isinstance(moment, ReplayScene)] == [1, 4, 6]
    assert [wire[2:5] + wire[5:6] for wire in asked] == [[1, "ledger/tape", 0, 4], [1, "ledger/tape", 0, 6]]


async def test_a_reader_that_is_slow_pauses_the_replay_and_loses_nothing() -> None:
    told: list[bool] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        await opened(talk)
        await talk.send(*events(2, 1, *range(1, 8)))
        control = await talk.expect("replay.control")
        told.append(control[3])
        await talk.send(*events(3, 1, *range(8, 11)))  # on its way meanwhile
        await answer(talk, control)
        control = await talk.expect("replay.control")
        told.append(control[3])
        await answer(talk, control)
        await talk.send(*events(4, 1, 11))
        await talk.idle()

    async with connected(script, watch_buffer=8) as client, client.replay("m1") as replay:
        await anext(replay)
        assert [await anext(replay) for _ in range(11)] == [event(number) for number in range(1, 12)]
    assert told == [False, True]


async def test_a_seek_drops_what_was_before_it_and_one_that_is_refused_loses_nothing() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        await opened(talk)
        await talk.send(*events(2, 1, 1, 2))
        control = await talk.expect("replay.control")
        await talk.send(*events(3, 1, 3))
        await talk.send("error", control[1], "past_limit", "not yet", None)
        control = await talk.expect("replay.control")
        await talk.send(*events(4, 1, 4))
        await answer(talk, control, 2)
        await talk.send("replay.scene", 5, 1, 2, 700, ["scene", 2])
        await talk.send(*events(6, 1, 2))
        await talk.idle()

    async with connected(script) as client, client.replay("m1") as replay:
        await anext(replay)
        with pytest.raises(Rejected) as refused:
            await replay.seek(10_000)
        assert refused.value.code == "past_limit"
        assert [await anext(replay) for _ in range(3)] == [event(1), event(2), event(3)]
        await replay.seek(700)
        scene = await anext(replay)
        assert isinstance(scene, ReplayScene) and scene.next_seq == 2
        assert await anext(replay) == event(2)


async def test_replay_that_cannot_be_opened_says_why_and_a_client_ends_its_replays() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("replay.open")
        await talk.send("error", asked[1], "not_found", "no log of match/m1", None)
        await opened(talk)
        await talk.idle()

    async with connected(script) as client:
        with pytest.raises(NotFound):
            async with client.replay("m1"):
                pass
        async with client.replay("m1") as replay:
            await anext(replay)
            await client.aclose()
            with pytest.raises(garrison.errors.SessionClosed):
                await anext(replay)
