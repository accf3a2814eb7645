"""An actor system in a process of its own, for `remote-call`: prints where it is, serves until SIGTERM. With the
argument `encrypted` its links are."""

import asyncio
import json
import signal
import sys

import uvloop

from server.actors.app import App
from server.lab.bench.call import Counter
from server.lab.bench.systems import memory_system


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with memory_system(App("bench", (Counter,)), "served", encrypted="encrypted" in sys.argv) as system:
        member = {"node": system.me.node, "incarnation": system.me.incarnation, "endpoint": system.transport.endpoint}
        print(json.dumps(member), flush=True)
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(main())
