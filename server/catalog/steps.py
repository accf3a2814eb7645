"""Steps of loops that go on for ever: nothing that goes wrong in one of them ends the loop."""

from collections.abc import Awaitable

import structlog

log = structlog.get_logger(__name__)


async def guarded(step: Awaitable[int]) -> int:
    """The result of `step`; 0 where it fails, which is logged."""
    try:
        return await step
    except Exception as error:
        log.error("catalog step failed", exc_info=error)
        return 0
