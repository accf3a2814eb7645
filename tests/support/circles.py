"""Circles that lives of things leave behind: objects that hold each other, which only the garbage collector frees."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

LIVES = 12
"""Lives that are looked at: a circle of each is told from what a test leaves once."""


async def circles_of(life: Callable[[int], Awaitable[None]]) -> list[str]:
    """What is in the circles that each `life(number)` leaves, by type; empty where it leaves none. Things that are made
    once, by the first lives, do not count."""
    for number in range(3):
        await life(number)
    await asyncio.sleep(0.05)
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for number in range(3, 3 + LIVES):
            await life(number)
        await asyncio.sleep(0.05)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return _named(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        if was_enabled:
            gc.enable()


def _named(garbage: list[Any]) -> list[str]:
    """Types of which there are as many as there were lives, among objects that hold themselves by a way of others."""
    held = {id(it): [id(other) for other in gc.get_referents(it)] for it in garbage}
    names: dict[str, int] = {}
    for it in garbage:
        seen: set[int] = set()
        ahead = [other for other in held[id(it)] if other in held]
        while ahead and id(it) not in seen:
            at = ahead.pop()
            if at not in seen:
                seen.add(at)
                ahead += [other for other in held[at] if other in held]
        if id(it) in seen:
            name = f"frame of {it.f_code.co_qualname}" if type(it).__name__ == "frame" else type(it).__qualname__
            names[name] = names.get(name, 0) + 1
    return sorted(name for name, count in names.items() if count >= LIVES)
