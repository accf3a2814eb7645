"""The wire, tried by a client that was written from docs/protocol.md alone, against two nodes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import garrison
from server.cli.common import token_maker
from server.cli.config import read_settings
from server.cli.local_cluster import Home, LocalCluster
from tests.support.second_client import SecondClient, ServerError, Wire

PLAYERS = [f"noble-{number}" for number in range(6)]


@asynccontextmanager
async def cluster(path: Path) -> AsyncIterator[tuple[list[str], Any]]:
    """Client urls of two nodes, and `token(subject, role)`."""
    nodes = LocalCluster(Home(path), 2, 0, ["gateway.heartbeat_interval_s=0.2", "gateway.heartbeats_missed=100"])
    try:
        await nodes.prepare("second")
        await nodes.start(lambda text: None)
        yield nodes.gateways, token_maker(read_settings(nodes.home.config))
    finally:
        await nodes.stop()


async def until_both_nodes_serve(url: str, token: Any) -> None:
    """A node may be ready before the other has heard of it: until then nobody is redirected."""
    redirects = 0
    while not redirects:
        for number in range(6):
            client = SecondClient(url, token(f"probe-{number}", "player"), f"probe-{number}")
            await client.open()
            redirects += client.redirects
            await client.close()


async def collect(client: SecondClient, topic: str, from_seq: int = 1) -> list[tuple[int, Wire]]:
    return [item async for item in client.stream(topic, from_seq)]


async def test_a_match_over_json(tmp_path: Path) -> None:
    async with asyncio.timeout(60), cluster(tmp_path / "home") as (urls, token):
        await until_both_nodes_serve(urls[0], token)
        host = SecondClient(urls[0], token("referee", "host"), "host-1")
        await host.open()
        players = {name: SecondClient(urls[0], token(name, "player"), f"{name}-1") for name in PLAYERS}
        await asyncio.gather(*(client.open() for client in players.values()))
        assert 0 < sum(client.redirects for client in players.values()) <= len(PLAYERS)
        first, other = players["noble-0"], players["noble-1"]
        assert first.welcome[4:6] == ["noble-0", "player"]

        options = ["slayer", "Recharge", 0, 8, 0, 0, True, 0]
        created = await host.command("match.create", "m-1", options)
        assert created[2:] == ["m-1", 1, 2]
        assert (await host.command("match.create", "m-1", options, number=1))[2:] == created[2:]
        await asyncio.gather(*(client.command("match.join", "m-1") for client in players.values()))
        streams = [asyncio.create_task(collect(client, "match/m-1")) for client in players.values()]
        await host.command("match.start", "m-1")
        for second in range(1, 21):
            await host.command("match.report", "m-1", [["kill", second * 1_000, "noble-0", "noble-1"]])
        with pytest.raises(ServerError, match="clock_backwards"):
            await host.command("match.report", "m-1", [["death", 1, "noble-0"]])
        with pytest.raises(ServerError, match="forbidden"):
            await other.command("match.end", "m-1")
        board = await other.ask("match.get", "m-1")
        assert [line[:4] for line in board[9] if line[3]] == [["noble-0", None, True, 20]]
        await host.command("match.end", "m-1", 21_000)
        logs = await asyncio.gather(*streams)
        assert all(log == logs[0] for log in logs)
        assert [number for number, _ in logs[0]] == list(range(1, 1 + 1 + 6 + 1 + 20 + 1))
        assert logs[0][-1][1][:4] == ["ended", 21_000, "host_ended", "noble-0"]
        assert await collect(other, "match/m-1", 20) == logs[0][19:]
        await asyncio.gather(*(client.close() for client in (host, *players.values())))
        assert host.close_code == 1000


async def test_presence_resume_and_errors_over_json(tmp_path: Path) -> None:
    async with asyncio.timeout(60), cluster(tmp_path / "home") as (urls, token):
        client = SecondClient(urls[1], token("emile", "player"), "emile-1")
        await client.open()
        saved = await client.command("profile.set", "Emile", "skull")
        assert saved[0] == "saved" and saved[2] == "player/emile"
        assert (await client.command("profile.set", "Other", number=1))[3] == saved[3]
        assert (await client.ask("profile.get", "emile"))[3:5] == ["Emile", "skull"]
        await client.ask("presence.set", "busy", "In the armoury")
        async with garrison.connect(urls, token("jun", "player")) as sdk:
            assert (await sdk.get_presence("emile")).activity == "In the armoury"
            assert (await sdk.get_presence("nobody")).status == "offline"

        while client.beats < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        session = client.welcome[2]
        client.cut()
        assert await client.again()
        assert client.welcome[2] == session

        for kind, fields, code in (
            ("match.get", ["none-such"], "not_found"),
            ("match.get", [], "bad_frame"),
            ("match.got", ["x"], "unknown_type"),
            ("watch", ["player/emile"], "not_found"),
            ("match.report", ["l", 1, "m", [["kill", 1, "emile"]]], "forbidden"),
        ):
            with pytest.raises(ServerError) as caught:
                await client.ask(kind, *fields)
            assert caught.value.code == code
        await client.close()

        forged = SecondClient(urls[0], token("emile", "player")[:-4] + "AAAA", "l")
        with pytest.raises(ServerError) as caught:
            await forged.open()
        assert caught.value.code == "bad_token"
