"""The swarm against a toy node: matches end, streams are exact, the ledger holds what was promised."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve

from garrison_bots.load import Load, LoadOptions, LoadProcess, steps_for
from garrison_bots.swarm import Swarm, SwarmOptions
from tests.support.bots import ToyNode, plain_token
from tests.support.sdk import scripted, until


@pytest.mark.parametrize("drop_every", [0, 3])
async def test_matches_end_and_the_ledger_is_kept(tmp_path: Path, drop_every: int) -> None:
    node = ToyNode(drop_every=drop_every, drop_after=9)
    ledger = tmp_path / "ledger.json"
    options = SwarmOptions(
        players=16, speed=600, length_ms=(120_000, 180_000), seed=7, ramp_s=0.05, pause_s=(0.01, 0.05), ledger=ledger
    )
    ended: list[str] = []
    async with scripted(node.script) as server:
        swarm = Swarm([server.url], plain_token, options, on_ended=ended.append)
        running = asyncio.create_task(swarm.run())
        await until(lambda: len(ended) >= 4 or running.done(), 60)
        swarm.stop()
        await running
    counts = swarm.counts()
    assert counts.errors == 0, counts.last_error
    assert counts.stream_faults == 0
    assert counts.matches_ended == len(ended) >= 4
    assert counts.match_events_sent > 50
    assert counts.heartbeats > 0
    assert (counts.reconnects > 0) == bool(drop_every)
    kept = json.loads(ledger.read_text())
    assert kept["entities"] == {f"player/{name}": n for name, n in node.versions.items()} or drop_every
    assert all(node.versions[name.removeprefix("player/")] >= version for name, version in kept["entities"].items())
    assert {name: len(node.logs[name]) + 1 for name in ended} == {name: kept["matches"][name] for name in ended}
    assert kept["ended"] == ended
    assert kept["changes"] >= 16 * 2


async def test_a_stop_waits_for_no_report_that_is_far_away() -> None:
    """At this speed the next report of a match is due in an hour."""
    node = ToyNode()
    options = SwarmOptions(players=8, speed=0.001, length_ms=(120_000, 180_000), seed=7, ramp_s=0.05)
    async with scripted(node.script) as server:
        swarm = Swarm([server.url], plain_token, options)
        running = asyncio.create_task(swarm.run())
        await until(lambda: swarm.counts().matches_live == 1 and bool(swarm.rounds), 60)
        (round_,) = swarm.rounds.values()
        async with asyncio.timeout(60):
            await round_.live.wait()
        swarm.stop()
        async with asyncio.timeout(60):
            await running
    assert swarm.counts().errors == 0, swarm.counts().last_error
    assert not swarm.rounds


async def echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


async def beat(ws: ServerConnection) -> None:
    """Welcomes, and answers heartbeats as the server does."""
    beats = 0
    async for message in ws:
        wire = msgspec.msgpack.decode(message if isinstance(message, bytes) else message.encode())
        if wire[0] == "hello":
            await ws.send(msgspec.msgpack.encode(["welcome", wire[1]]))
        elif wire[1]:
            await ws.send(msgspec.msgpack.encode(["beat", wire[1]]))
            if beats:
                await ws.send(msgspec.msgpack.encode(["beats", beats]))
        else:
            beats += 1


async def test_load_against_an_echo_in_another_process() -> None:
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        async with LoadProcess(LoadOptions(url=url, connections=4, mode="raw")) as load:
            await load.start()
            before = await load.count()
            while (after := await load.count()).units < before.units + 50:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert (await load.stop()).units >= after.units
            assert after.errors == after.closed == 0
            assert after.p99_ms >= after.p50_ms > 0


@pytest.mark.parametrize(("mode", "rate"), [("heartbeat", None), ("cumulative", None), ("heartbeat", 2_000.0)])
async def test_load_counts_acknowledged_heartbeats(mode: str, rate: float | None) -> None:
    async with serve(beat, "127.0.0.1", 0, compression=None) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        tree = {"url": url, "connections": 3, "mode": mode, "tokens": ["a", "b", "c"], "rate_per_s": rate}
        load = Load(msgspec.convert(tree, LoadOptions))
        await load.connect()
        load.start()
        await until(lambda: load.units >= 60)
        await load.close()
        assert load.errors == 0
        assert load.units % (10 if mode == "cumulative" else 1) == 0


def test_every_tenth_heartbeat_changes_a_durable_field() -> None:
    options = LoadOptions(url="", connections=1)
    wires = [msgspec.msgpack.decode(step[0]) for step in steps_for(options)]
    assert [wire[3] for wire in wires if wire[3]] == ["away", "online"]
    assert len(wires) == 20
