"""Parties over a node of its own: the example of the README of the SDK, and a leader who invites and plays."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import garrison
from garrison.messages import MatchCreate, MatchOptions
from server.cli.common import token_maker
from server.cli.config import read_settings
from server.cli.local_cluster import Home, LocalCluster
from tests.support.program import environment, sdk_example


@asynccontextmanager
async def program(code: str, directory: Path, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """A program that runs meanwhile; what it prints."""
    (directory / "party.py").write_text(code)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "party.py", *arguments, cwd=directory, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def says(lines: asyncio.StreamReader, wanted: str) -> None:
    while (line := await lines.readline()).decode().strip() != wanted:
        assert line, f"it ended without saying {wanted!r}"


async def test_the_example_joins_whoever_invites(tmp_path: Path) -> None:
    code = sdk_example("client.party")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    home = Home(tmp_path / "home")
    nodes = LocalCluster(home, 1, 0, [])
    try:
        await nodes.prepare("parties")
        await nodes.start(lambda text: None)
        url, token = nodes.gateways[0], token_maker(read_settings(nodes.home.config))
        async with asyncio.timeout(60):
            async with garrison.connect(url, token("bob", "player")):
                pass  # bob was here once
            async with (
                garrison.connect(url, token("ann", "player")) as ann,
                garrison.connect(url, token("cyd", "player")) as cyd,
                garrison.connect(url, token("film", "host")) as referee,
                program(code, tmp_path, url, token("bob", "player")) as lines,
            ):
                party = await ann.party.create(4)
                await ann.party.invite(party, "bob")
                await says(lines, "ann bob")
                assert await cyd.party.join_code((await ann.party.get(party)).code) == party
                await says(lines, "ann bob cyd")
                async with ann.party.watch(party) as pictures:
                    picture = await anext(pictures)
                    assert [member.player for member in picture.members] == ["ann", "bob", "cyd"]
                    assert picture.leader == "ann" and picture.members[1].ready
                    options = MatchOptions(mode="objective", private=True)
                    await referee.request(MatchCreate("m1", options, "hunter2"))
                    await ann.party.play(party, "m1", password="hunter2")
                    while picture.match != "m1":
                        picture = await anext(pictures)
                async with cyd.party.watch(party) as seen, cyd.party.over() as over:
                    assert (await anext(seen)).match == "m1"
                    await ann.party.kick(party, picture.members[2])
                    assert (await anext(over)).reason == "kicked"
                    assert [picture.members async for picture in seen][-1] == []
                await says(lines, "ann bob")
                await ann.party.disband(party)
                await says(lines, "")
    finally:
        await nodes.stop()
