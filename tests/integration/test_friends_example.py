"""Friends over a node of its own: the example of the README of the SDK, and clients that follow each other."""

import asyncio
import sys
from pathlib import Path

import garrison
from server.cli.common import token_maker
from server.cli.config import read_settings
from server.cli.local_cluster import Home, LocalCluster
from tests.support.program import environment, sdk_example


async def test_the_example_accepts_whoever_asks(tmp_path: Path) -> None:
    code = sdk_example("client.friends")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (tmp_path / "friends.py").write_text(code)
    home = Home(tmp_path / "home")
    nodes = LocalCluster(home, 1, 0, [])
    try:
        await nodes.prepare("friends")
        await nodes.start(lambda text: None)
        url, token = nodes.gateways[0], token_maker(read_settings(nodes.home.config))
        async with asyncio.timeout(60):
            async with garrison.connect(url, token("bob", "player")):
                pass  # bob was here once
            async with (
                garrison.connect(url, token("ann", "player")) as ann,
                garrison.connect(url, token("cyd", "player")) as cyd,
                ann.friends.changes() as changes,
            ):
                await ann.friends.invite("bob")
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "friends.py", url, token("bob", "player"),
                    cwd=tmp_path, env=environment(), stdout=asyncio.subprocess.PIPE,
                )  # fmt: skip
                try:
                    assert [(await anext(changes)).state for _ in range(2)] == ["invited", "friend"]
                    await cyd.friends.invite("bob")
                    assert process.stdout is not None
                    lines = []
                    while "cyd friend" not in lines:
                        lines.append((await process.stdout.readline()).decode().strip())
                    assert "cyd inviting" in lines
                finally:
                    process.kill()
                    await process.wait()
                await ann.friends.remove("bob")
                assert (await anext(changes)).state == "none" and [entry async for entry in ann.friends.list()] == []
                assert [entry.player async for entry in cyd.friends.list("friend")] == ["bob"]
    finally:
        await nodes.stop()
