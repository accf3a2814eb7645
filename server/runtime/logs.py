"""Structured logs on standard error: for people by default, one JSON object a line on request."""

import logging
import sys
from typing import Any

import structlog

from server.errors import BadSetting
from server.settings import LogSettings


def configure(settings: LogSettings, node: str) -> None:
    """Set the logs of this process up, its libraries' too; every line names the node. Raises
    `BadSetting`."""
    level = logging.getLevelNamesMapping().get(settings.level.upper())
    if level is None:
        raise BadSetting("log.level", f"no level {settings.level!r}; use debug, info, warning or error")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        lambda _, __, line: {"node": node, **line},
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.json
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING))
