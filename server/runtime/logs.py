"""Structured logs on standard error: for people by default, one JSON object a line on request."""

import io
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from server.errors import BadSetting
from server.settings import LogSettings
from server.texts import escaped, escaped_lines


def _escape(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Show what clients and other programs have written without letting a terminal obey it, in one line each."""
    for name, value in line.items():
        if type(value) is str:
            line[name] = escaped(value)
    return line


def _traceback(file: TextIO, error: Any) -> None:
    said = io.StringIO()
    structlog.dev.plain_traceback(said, error)
    file.write(escaped_lines(said.getvalue()))


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
        else [_escape, structlog.dev.ConsoleRenderer(colors=False, exception_formatter=_traceback)]
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
