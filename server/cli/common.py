"""The common part of all commands: their options, and how they speak and fail.

Standard output carries what was asked for; progress and errors go to standard error. A command
that fails says why in one line and ends with exit code 2.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from server.errors import BadInput
from server.runtime.listening import dialled_host
from server.settings import Settings
from server.texts import escaped_json, escaped_lines

Config = Annotated[
    Path | None,
    Parameter(
        name="--config",
        help="Settings file (TOML). Without it: $GARRISON_CONFIG, then ./garrison.toml, then the demo's.",
    ),
]
Set = Annotated[
    list[str] | None,
    Parameter(name="--set", help="Any setting, as section.field=value; may be repeated.", negative=""),
]
UNBOUNDED: Final = 1_000_000
"""Columns of a pipe or a file."""
HELP_COLUMNS: Final = 120
"""Columns of a help text in a pipe or a file: it fills all that it has."""
Json = Annotated[
    bool, Parameter(name="--json", help="One JSON document on standard output.", negative="", show_default=False)
]


class PlainConsole(Console):
    """A console that shows what others have written without obeying it, and leaves a pipe that nobody reads any
    more to the program (`server/cli/app.py`)."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or (shown := escaped_lines(segment.text)) == segment.text:
                yield segment
            else:
                yield Segment(shown, segment.style)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_json(document: bytes) -> None:
    """Write a JSON document, a line, to standard output: with escapes for what a terminal would obey, and for what
    the output's encoding does not have."""
    ascii_only = not (sys.stdout.encoding or "ascii").lower().startswith("utf")
    print(escaped_json(document.decode(), ascii_only))


def out(piped_columns: int = UNBOUNDED) -> Console:
    """Standard output, for people. Into a pipe or a file a table is as wide as it needs to be."""
    width = None if sys.stdout.isatty() else piped_columns
    return PlainConsole(file=sys.stdout, highlight=False, emoji=False, soft_wrap=True, width=width)


def err() -> Console:
    """Standard error: progress."""
    return PlainConsole(file=sys.stderr, highlight=False, emoji=False, soft_wrap=True)


@contextlib.contextmanager
def goes_on(line: str) -> Iterator[None]:
    """Say `line` where somebody stops waiting (Ctrl-C) for what a node does without this command too."""
    try:
        yield
    except KeyboardInterrupt:
        err().print(line, markup=False)
        raise


def program() -> str:
    """This program as a person types it here: `garrison` if that is what they would get."""
    started = Path(sys.argv[0])
    found = shutil.which("garrison")
    if started.name != "garrison" or (found and Path(found).resolve() == started.resolve()):
        return "garrison"
    with contextlib.suppress(ValueError):
        return str(started.absolute().relative_to(Path.cwd()))
    return str(started)


def token_maker(settings: Settings) -> Callable[[str, str], str]:
    """Makes a token of a subject and a role, good for a day. Raises `BadSetting` without a key."""
    from server.drivers import signing_key
    from server.sessions.tokens import issue

    key = signing_key(settings)
    audience, kid = settings.gateway.token_audience, settings.security.signing_key_id
    return lambda subject, role: issue(key, subject, role, 86_400.0, time.time_ns() // 1_000_000, audience, kid)


def client_url(settings: Settings) -> str:
    """The address at which clients on this machine reach the node of these settings."""
    gateway = settings.gateway
    scheme = "ws" if gateway.tls_certificate is None else "wss"
    return gateway.advertise_url or f"{scheme}://{dialled_host(gateway.host)}:{gateway.port}"


def seconds_of(text: str, flag: str) -> float:
    """`90`, `90s`, `15m`, `12h` or `7d`, given with `flag`, as seconds. Raises `BadInput`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise BadInput(f"{flag}: {text!r} is no length of time; use 90s, 15m, 12h or 7d")
    return seconds
