"""The SDK's leaderboards: pages, places and friends, asked for again while a board is being read."""

import asyncio
from typing import Any

import garrison
from garrison.messages import BoardRow
from tests.support.sdk import FAST, Talk, scripted


async def test_rows_go_over_the_pages_and_a_board_that_is_being_read_is_asked_for_again() -> None:
    asked: list[list[Any]] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked.append(await talk.expect("board.top"))
        await talk.send("error", asked[-1][1], "unavailable", "the board is being read from the store", 10)
        asked.append(await talk.expect("board.top"))
        await talk.send("board", asked[-1][1], [[1, "ada", 9]], 2, "9/ada")
        asked.append(await talk.expect("board.top"))
        await talk.send("board", asked[-1][1], [[2, "bo", 5]], 2, None)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        rows = [row async for row in client.boards.rows("kills", mode="slayer", period="day:2026-11-29")]
    assert rows == [BoardRow(1, "ada", 9), BoardRow(2, "bo", 5)]
    board = ["kills", "slayer", "day:2026-11-29", 100]
    assert [wire[2:] for wire in asked] == [[*board, ""], [*board, ""], [*board, "9/ada"]]


async def test_a_place_and_friends() -> None:
    seen: asyncio.Queue[list[Any]] = asyncio.Queue()

    async def script(talk: Talk) -> None:
        await talk.welcome()
        for kind in ("board.around", "board.friends"):
            wire = await talk.expect(kind)
            seen.put_nowait(wire)
            await talk.send("board", wire[1], [[7, "ada", 3]], 20, None)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        mine = await client.boards.around("rating", "ada", mode="slayer", count=1)
        friends = await client.boards.friends("wins")
    assert (mine.rows, mine.total, friends.rows) == ([BoardRow(7, "ada", 3)], 20, [BoardRow(7, "ada", 3)])
    assert [seen.get_nowait()[2:] for _ in range(2)] == [
        ["rating", "ada", "slayer", "all", 1],
        ["wins", "all", "all", 100],
    ]
