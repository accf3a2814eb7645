"""A fair share of the machine for processes that a node starts beside itself: they have only the time that nobody else
wants, which on a machine with something to do on every core is hardly any."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

LOOK_S = 0.05


def lift_children() -> None:
    """Take the children of this process out of the idle class, where this user may."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            with contextlib.suppress(OSError):
                if os.sched_getscheduler(child) == os.SCHED_IDLE:
                    os.sched_setscheduler(child, os.SCHED_OTHER, os.sched_param(0))
                    os.setpriority(os.PRIO_PROCESS, child, 0)


@contextlib.asynccontextmanager
async def fair_share() -> AsyncIterator[None]:
    """Lift whatever children there are meanwhile."""

    async def lift() -> None:
        while True:
            lift_children()
            await asyncio.sleep(LOOK_S)

    lifting = asyncio.ensure_future(lift())
    try:
        yield
    finally:
        lifting.cancel()
