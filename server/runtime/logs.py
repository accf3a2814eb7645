"""Structured logs on standard error: for people by default, one JSON object a line on request."""

import asyncio
import io
import logging
import sys
from collections.abc import Callable, MutableMapping
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


class LoggedOften:
    """A line of the log for something that may happen thousands of times a second: the first is written at once, the
    others of each second as one line, with their number (`count`) and the fields of the last."""

    def __init__(self, write: Callable[..., object]) -> None:
        self._write = write
        self._count = 0
        self._fields: dict[str, object] | None = None
        """Set while a second runs."""

    def note(self, **fields: object) -> None:
        """Count one more. On the event loop only."""
        if self._fields is None:
            self._write(**fields)
            asyncio.get_running_loop().call_later(1.0, self._second_over)
        else:
            self._count += 1
        self._fields = fields

    def _second_over(self) -> None:
        count, fields = self._count, self._fields
        self._count, self._fields = 0, None
        if count:
            assert fields is not None
            self._write(count=count, **fields)
            self._fields = fields
            asyncio.get_running_loop().call_later(1.0, self._second_over)
