"""`garrison theatre`: a stored match in a browser. Reads the store; no cluster needs to run."""

import asyncio
import signal
import sys
import webbrowser
from contextlib import suppress
from typing import Annotated
from urllib.parse import quote

import msgspec
from cyclopts import App, Parameter, validators

from game import replay as replays
from game.commands.stored import read_match
from server.cli.common import Config, Json, Set, out, print_json
from server.cli.config import read_settings
from server.cli.viewer import viewer
from server.ids import key_of
from server.settings import Settings

EXAMPLES = """
Examples:

- `garrison theatre latest` serves the newest match that has ended, and prints the address
- `garrison theatre ranked-42 --at 05:30 --open` opens the browser at 5 minutes 30

The dashboard of a running node has the same page: under Matches.
"""


def theatre(
    match: Annotated[str, Parameter(help="The match, or `latest`; `garrison matches` lists them.")] = "latest",
    *,
    at: Annotated[str | None, Parameter(help="Begin at this time of the match, MM:SS.", show_default=False)] = None,
    port: Annotated[
        int, Parameter(help="Port on loopback; 0: any that is free.", validator=validators.Number(gte=0, lte=65535))
    ] = 0,
    open_: Annotated[
        bool, Parameter(name="--open", help="Open the browser too.", negative="", show_default=False)
    ] = False,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Show a stored match in a browser, until Ctrl-C."""
    at_ms = None if at is None else replays.parse_clock(at)
    asyncio.run(_serve(read_settings(config, set_), match, at_ms, port, open_, json))
    return 0


def page_of(match: str, at_ms: int | None = None) -> str:
    """The theatre of a match, as the part of the dashboard's address behind `#`."""
    return f"/matches/{quote(match, safe='')}/theatre{'' if at_ms is None else f'?t={at_ms}'}"


async def _serve(settings: Settings, match: str, at_ms: int | None, port: int, open_: bool, json: bool) -> None:
    identity, _ = await read_match(settings, match)
    name = key_of(identity)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with viewer(settings, port) as (url, token):
        address = f"{url}/#token={token}&page={page_of(name, at_ms)}"
        if json:
            print_json(msgspec.json.encode({"match": name, "url": address}))
        else:
            out().print(f"match {name}: {address}", markup=False)
            out().print("Ctrl-C ends it", markup=False)
        sys.stdout.flush()  # into a pipe, too
        if open_:
            with suppress(webbrowser.Error):
                await asyncio.to_thread(webbrowser.open, address)
        await stop.wait()


def register(app: App) -> None:
    app.command(theatre, name="theatre", help_epilogue=EXAMPLES)
