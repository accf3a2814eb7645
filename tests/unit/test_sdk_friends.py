"""The SDK's friends: commands under a number, a list over pages, changes for each reader."""

import asyncio
from typing import Any

import pytest

import garrison
from garrison.errors import Rejected
from garrison.messages import FriendsChanged, Friendship, RecentPlayer
from tests.support.sdk import FAST, Talk, scripted


async def test_commands_name_the_player() -> None:
    seen: list[list[Any]] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        while True:
            seen.append(await talk.recv())
            await talk.send("saved", seen[-1][1], "friends/p1", len(seen))

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        friends = client.friends
        for act in (friends.invite, friends.accept, friends.decline, friends.remove, friends.block, friends.unblock):
            assert (await act("p2")).entity == "friends/p1"
        lineage = client.lineage
    acts = ("invite", "accept", "decline", "remove", "block", "unblock")
    said = [[wire[0], *wire[2:]] for wire in seen if wire[0].startswith("friends.")]
    assert said == [[f"friends.{act}", lineage, number, "p2"] for number, act in enumerate(acts, 1)]


async def test_a_rule_that_refuses_has_its_code() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("friends.accept")
        await talk.send("error", asked[1], "no_invite", "nothing waits", None)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        with pytest.raises(Rejected) as refused:
            await client.friends.accept("p2")
        assert refused.value.code == "no_invite"


async def test_a_list_goes_over_its_pages() -> None:
    asked: list[list[Any]] = []
    pages = {"": ([["a", "friend", 1], ["b", "friend", 2]], "b"), "b": ([["c", "friend", 3]], None)}

    async def script(talk: Talk) -> None:
        await talk.welcome()
        for _ in pages:
            asked.append(await talk.expect("friends.list"))
            await talk.send("friends", asked[-1][1], *pages[asked[-1][3]])
        met = await talk.expect("friends.recent")
        await talk.send("friends.met", met[1], [["p2", "m1", 9]])
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        found = [entry async for entry in client.friends.list("friend")]
        assert found == [Friendship(name, "friend", number) for number, name in enumerate("abc", 1)]
        assert list(await client.friends.recent(7)) == [RecentPlayer("p2", "m1", 9)]
    assert [wire[3:] for wire in asked] == [["", "friend"], ["b", "friend"]]


async def test_each_reader_gets_the_changes_from_when_it_began() -> None:
    read, go = asyncio.Event(), [asyncio.Event() for _ in range(2)]

    async def script(talk: Talk) -> None:
        await talk.welcome()
        await read.wait()
        await talk.send("friends.changed", 1, "p2", "inviting", 5)
        await go[0].wait()
        await talk.send("match.assigned", 2, "m1")
        await talk.send("friends.changed", 3, "p2", "friend", 6)
        await go[1].wait()
        await talk.send("friends.changed", 4, "p2", "none", 7)
        await talk.close(4012)

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        async with client.friends.changes() as first, asyncio.timeout(30):
            read.set()
            assert (await anext(first)).state == "inviting"
            second = client.friends.changes()
            go[0].set()
            wanted = FriendsChanged("p2", "friend", 6, seq=3)
            assert await anext(first) == wanted == await anext(second)
        go[1].set()
        async with asyncio.timeout(30):
            rest = [change.state async for change in second]
        assert rest == ["none"] and [change async for change in first] == []
        assert [change async for change in client.friends.changes()] == []
