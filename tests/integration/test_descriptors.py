"""A node at its limit of file descriptors says so, goes on with those who are connected, and recovers (F50)."""

import asyncio
import json
import os
import resource
from pathlib import Path

from server.runtime.descriptors import shortage
from tests.integration.test_protocol_sentences import KEY, Node
from tests.support.program import Running, garrison


def test_shortage_is_told_while_it_lasts() -> None:
    assert shortage() == ""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(2)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))  # no number below it is free
    try:
        assert shortage().startswith(f"no file descriptor is free (the limit is {free:,})")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert shortage() == ""


async def test_node_without_a_free_descriptor(tmp_path: Path) -> None:
    values = {
        "security.signing_key": KEY,
        "store.url": f"sqlite:///{tmp_path}/x.db",
        "gateway.port": "0",
        "admin.enabled": "false",
    }
    given = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    assert (await asyncio.to_thread(garrison, "migrate", *given, cwd=tmp_path)).returncode == 0
    with Running("node", *given, cwd=tmp_path) as process:
        assert process.process.stdout is not None
        ready = json.loads(await asyncio.to_thread(process.process.stdout.readline))
        node, pid = Node(ready["client_url"]), process.process.pid
        client = await node.enter()
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, usual[1]))
        await asyncio.to_thread(process.line, "no file descriptor is free")
        assert (await client.ask("heartbeat", 2))[0] == "beat"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        await asyncio.to_thread(process.line, "file descriptors are free again")
        other = await node.enter()
        for one in (client, other):
            await one.ws.close()
        process.process.terminate()
        assert (await asyncio.to_thread(process.end))[0] == 0
