"""The SDK's parties: commands under a number, pictures of a party, pushes for each reader."""

import asyncio
from typing import Any

import pytest

import garrison
from garrison.errors import Rejected
from garrison.messages import PartyInvitation, PartyMember
from garrison.party import PartyPicture
from tests.support.sdk import FAST, Talk, scripted

HEAD = {"leader": "p1", "room": 4, "code": "AB-CD", "match": None}


async def test_commands_name_the_party() -> None:
    seen: list[list[Any]] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        while True:
            wire = await talk.recv()
            if wire[0].startswith("party."):
                seen.append(wire)
                answer = (
                    ["accepted", wire[1], "m1", 3, 4] if wire[0] == "party.play" else ["saved", wire[1], "party/x", 2]
                )
                await talk.send(*answer)

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        party, member = client.party, PartyMember("p2", 7, True, False)
        assert await party.create(4) == "x" == await party.join_code("ab cd")
        await party.join("x")
        await party.invite("x", "p2")
        await party.ready("x")
        await party.ready("x", False)
        await party.kick("x", member)
        await party.promote("x", "p2")
        await party.recode("x")
        assert (await party.play("x", "m1", 1, "hunter2")).first_seq == 3
        await party.leave("x")
        await party.disband("x")
        lineage = client.lineage
    assert [wire[2] for wire in seen] == [lineage] * 12 and [wire[3] for wire in seen] == list(range(1, 13))
    assert [[wire[0], *wire[4:]] for wire in seen] == [
        ["party.create", 4],
        ["party.join_code", "ab cd"],
        ["party.join", "x"],
        ["party.invite", "x", "p2"],
        ["party.ready", "x", True],
        ["party.ready", "x", False],
        ["party.kick", "x", "p2", 7],
        ["party.promote", "x", "p2"],
        ["party.recode", "x"],
        ["party.play", "x", "m1", 1, "hunter2"],
        ["party.leave", "x"],
        ["party.disband", "x"],
    ]


async def test_reads_are_typed_and_a_refusal_has_its_code() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        for _ in range(2):
            asked = await talk.expect("party.invites")
            await talk.send("party.inbox", asked[1], "x", 7, [["y", "p3", 99]])
        asked = await talk.expect("party.get")
        await talk.send("party", asked[1], "x", "p1", 4, "AB-CD", None, [["p1", 7, True, False]], ["p3"], 5)
        asked = await talk.expect("party.get")
        await talk.send("error", asked[1], "not_in_party", "no member", None)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        mine = await client.party.mine()
        assert (mine.party, mine.number) == ("x", 7)
        assert list(await client.party.invitations()) == [PartyInvitation("y", "p3", 99)]
        found = await client.party.get("x")
        assert (found.members, found.invited) == ([PartyMember("p1", 7, True, False)], ["p3"])
        with pytest.raises(Rejected) as refused:
            await client.party.get("x")
        assert refused.value.code == "not_in_party"


async def test_a_watched_party_is_a_picture_until_it_is_over() -> None:
    go = asyncio.Event()
    lines = {
        "party": HEAD,
        "member/p2": {"number": 9, "here": True, "ready": False},
        "member/p1": {"number": 7, "here": True, "ready": True},
    }

    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("watch_latest")
        await talk.send("snapshot", asked[1], asked[2], "c1", [list(item) for item in lines.items()])
        await go.wait()
        go.clear()
        await talk.send("latest", asked[2], "c2", False, [["member/p2", None], ["party", {**HEAD, "match": "m1"}]])
        await go.wait()
        await talk.send("latest", asked[2], "c3", True, [])
        await talk.idle()

    async with (
        scripted(script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        client.party.watch("x") as pictures,
        asyncio.timeout(30),
    ):
        first, second = PartyMember("p1", 7, True, True), PartyMember("p2", 9, True, False)
        assert await anext(pictures) == PartyPicture("p1", 4, "AB-CD", None, [first, second])
        go.set()
        assert await anext(pictures) == PartyPicture("p1", 4, "AB-CD", "m1", [first])
        go.set()
        assert [picture.members async for picture in pictures] == [[]], "the last one is of nobody"


async def test_each_kind_of_push_has_a_reader_of_its_own() -> None:
    read = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.welcome()
        await read.wait()
        await talk.send("party.invited", 1, "x", "p2", 99)
        await talk.send("party.assigned", 2, "x")
        await talk.send("party.over", 3, "x", "kicked")
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        invited, assigned, over = client.party.invited(), client.party.assigned(), client.party.over()
        read.set()
        async with asyncio.timeout(30):
            assert ((await anext(invited)).by, (await anext(assigned)).party) == ("p2", "x")
            assert (await anext(over)).reason == "kicked"
