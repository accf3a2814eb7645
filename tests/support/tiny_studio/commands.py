"""`garrison counters`: the tiny application's own command."""

import asyncio

import msgspec
from cyclopts import App

from server.cli.common import Config, Json, Set, out
from server.cli.config import read_settings
from server.drivers import build_store_queries
from server.settings import Settings


def counters(*, at_least: int = 0, json: Json = False, config: Config = None, set_: Set = None) -> int:
    """List the stored counters."""
    rows = asyncio.run(_stored(read_settings(config, set_), at_least))
    if json:
        print(msgspec.json.encode(rows).decode())
    else:
        for row in rows:
            out().print(f"{row['key']} {row['total']}", markup=False)
    return 0


async def _stored(settings: Settings, at_least: int) -> list[dict[str, object]]:
    queries = build_store_queries(settings)
    try:
        return await queries.run("largest", {"at_least": at_least})
    finally:
        await queries.close()


def register(app: App) -> None:
    app.command(counters, name="counters")
