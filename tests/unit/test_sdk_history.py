"""The SDK's history: pages that are asked for when they are wanted, under the same filters."""

from typing import Any

import garrison
from tests.support.sdk import FAST, Talk, scripted

ROW = ["m1", "slayer", "Recharge", "", 1, 2, 3, 4, "score", "ann", [], 2, [["skill", 7]], ["cup"]]


async def test_pages_are_asked_for_one_after_the_other_with_the_same_filters() -> None:
    asked: list[list[Any]] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked.append(await talk.expect("match.history"))
        await talk.send("history", asked[-1][1], [[*ROW, [0, "won", 4, 3, 2, 1, 0, 9]]], "there")
        asked.append(await talk.expect("match.history"))
        await talk.send("history", asked[-1][1], [], None)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        pages = [
            page
            async for page in client.history(
                "ann",
                opponent="bob",
                mode="slayer",
                properties={"skill": 7},
                tags=["cup"],
                result="won",
                imported=False,
            )
        ]
    (row,) = pages[0].matches
    assert row.own is not None and (row.match, row.own.result, row.properties[0].value) == ("m1", "won", 7)
    filters = ["ann", "bob", "slayer", "", [["skill", 7]], ["cup"], "won", 0, 0, False, 20]
    assert [wire[2:] for wire in asked] == [[*filters, ""], [*filters, "there"]]
