"""Stages of a stop: each gets its time, and a failure of one does not take the others along."""

import asyncio
from collections.abc import Awaitable
from typing import Final

import structlog

from server.errors import GarrisonError

STAGE_S: Final = 8.0
"""Time for a stage of stopping that has none of its own."""

log = structlog.get_logger(__name__)


async def run_stage(stage: str, work: Awaitable[None], within_s: float = STAGE_S) -> bool:
    """Run a stage of stopping; returns whether it succeeded. A failure in it, or an end that does not come, is logged:
    the stages after it are still due."""
    try:
        async with asyncio.timeout(within_s):
            await work
        return True
    except TimeoutError:
        log.error("stage of stopping did not end", stage=stage, within_s=within_s)
    except Exception as error:
        known = isinstance(error, GarrisonError)
        log.warning("stage of stopping failed", stage=stage, why=str(error), exc_info=None if known else error)
    return False
