"""The SDK's watched players against live gateways, and the example of its README."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.errors import Rejected
from tests.support.gateways import token
from tests.support.sdk import PATIENT, until
from tests.support.watchers import WatchWorld, looks, watched

README = Path(__file__).parents[2] / "clients" / "python" / "README.md"


def connected(world: WatchWorld, node: str, subject: str) -> garrison.Client:
    return garrison.connect(world.world.nodes[node].url, lambda: token(subject), options=PATIENT)


def drop(client: garrison.Client) -> None:
    """Break the connection without a word."""
    assert client._ws is not None
    client._ws.transport.abort()


async def test_a_watch_goes_on_over_broken_connections_and_other_nodes() -> None:
    names = ("node-1", "node-2")
    async with asyncio.timeout(20), watched(names, sockets=True, gateway={"resume_window_s": 5.0}) as world:
        subject = world.world.player_of("node-1")
        world.show("anna", looks("on"))
        async with (
            connected(world, "node-1", subject) as client,
            client.watch_players(["anna", "ben", "no/"], str) as watch,
        ):
            await watch.ready()
            assert watch.players == {"anna": "on", "ben": "gone"} and watch.bad == ["no/"]
            drop(client)
            await until(lambda: not watch.current)
            world.show("ben", looks("here"))
            await until(lambda: watch.current and watch.players["ben"] == "here")
            world.world.show(*names, leaving=["node-1"])  # the session goes to node-2
            await until(lambda: client.url == world.world.nodes["node-2"].url and watch.current)
            world.show("anna", looks("there"))
            await until(lambda: watch.players["anna"] == "there")
            assert client.stats.recovered == 2 and world.engines["node-1"].entries == {}
            assert await client.presence_list(["anna", "x"], str) == {"anna": "there", "x": "gone"}


async def test_a_watch_past_its_bound_raises_where_it_is_read() -> None:
    async with watched(sockets=True, presence={"max_watched": 1}) as world, connected(world, "node-1", "v") as client:
        async with client.watch_players(["a", "b"], str) as watch:
            with pytest.raises(Rejected, match="at most 1"):
                await watch.ready()
            with pytest.raises(Rejected, match="at most 1"):
                await anext(watch)
        async with client.watch_players(["a"], str) as watch:
            await watch.ready()


async def test_the_readme_example_shows_friends(capsys: pytest.CaptureFixture[str]) -> None:
    code = next(
        each for each in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "watch_friends" in each
    )
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    found: dict[str, Callable[[garrison.Client], Any]] = {}
    exec(code, {"garrison": garrison}, found)
    said: list[str] = []

    def lines() -> list[str]:
        said.extend(capsys.readouterr().out.splitlines())
        return said

    async with watched(sockets=True) as world:
        world.relate("v", 1, ["anna"])
        world.show("anna", looks(["online"], ["online", 0, "in a match"]))
        async with connected(world, "node-1", "v") as client:
            task = asyncio.create_task(found["show_friends"](client))
            await until(lambda: "anna online in a match" in lines())
            world.show("ben", looks("", ["busy"]))
            world.relate("v", 2, ["ben"])
            world.show("v", looks("me"), relations=2)
            await until(lambda: "anna is no friend any more" in lines() and "ben busy " in said)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert "1 friends" in said
