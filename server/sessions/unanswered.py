"""Requests of a session that wait for their answer. Pure."""

import asyncio
from collections.abc import Callable
from typing import Any

from server.errors import GarrisonError, OutcomeUnknown


class Unanswered(dict[object, tuple[int, int]]):
    """Number and link of each request that waits, by whatever waits for it."""

    def end(self, link: int, fail: Callable[[int, BaseException], None]) -> None:
        """Answer those of connection `link`: nobody can tell their outcome. The real answers are dropped when they
        come, as are those to earlier connections."""
        waiting = list(self.values())
        self.clear()
        for number, asked_on in waiting:
            if number and asked_on == link:
                fail(number, OutcomeUnknown("this node goes over to another process"))


def error_of(future: "asyncio.Future[Any]") -> BaseException | None:
    """The error of a future that is done; None if it has a result."""
    if future.cancelled():
        return GarrisonError("cancelled")
    return future.exception()
