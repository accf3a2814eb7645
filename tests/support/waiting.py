"""Waiting for a condition that nothing announces: bounded, and never a fixed pause."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

LOOK_S = 0.002


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 30.0) -> None:
    """Return soon after `condition()` holds; fail after `timeout_s`. After a second it is looked at more
    rarely: the virtual minutes of a test would be made of looking."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with asyncio.timeout(timeout_s):
        while True:
            held = condition()
            if inspect.isawaitable(held):
                held = await held
            if held:
                return
            waited_s = loop.time() - began_s
            await asyncio.sleep(LOOK_S if waited_s < 1 else waited_s / 100)
