"""A node of commit 7cd968a as a process, with what differs from machine to machine taken out of it:

    python old_node.py SEED SETTINGS        SETTINGS: a JSON tree as `server.settings.from_tree` takes it

The wall clock stands still at `WALL_MS`, random names follow from SEED, the machine is called
`golden-host`. It runs as `garrison node` does otherwise, is killed by whoever started it, and stores
its write-behind changes at SIGUSR1.
"""

import asyncio
import hashlib
import itertools
import json
import secrets
import signal
import sys
from typing import Any

import uvloop

import server.main
from server.runtime.clock import SystemClock
from server.settings import from_tree
from server.storage.journal import local

WALL_MS = 1_750_000_000_000
KEY = "the golden samples' signing key: 32 bytes or more"


def settle_machine(seed: str) -> None:
    """No clock, no chance and no name of this machine in what is stored."""
    numbers = itertools.count()

    def token_hex(count: int = 32) -> str:
        return hashlib.shake_128(f"{seed}/{next(numbers)}".encode()).hexdigest(count)

    secrets.token_hex = token_hex
    SystemClock.wall_ms = staticmethod(lambda: WALL_MS)
    local.host_name = lambda: "golden-host"
    local.boot_id = lambda: "00000000-0000-4000-8000-000000000000"


async def run(tree: dict[str, Any]) -> int:
    build, nodes = server.main.build_node, []

    def build_node(settings: Any) -> Any:
        nodes.append(build(settings))
        return nodes[-1]

    server.main.build_node = build_node
    loop = asyncio.get_running_loop()
    flushing: list[Any] = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: flushing.append(loop.create_task(nodes[-1].write_behind.flush())))
    return await server.main.run_node(from_tree(tree))


if __name__ == "__main__":
    settle_machine(sys.argv[1])
    uvloop.run(run(json.loads(sys.argv[2])))
