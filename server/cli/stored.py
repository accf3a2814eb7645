"""Reads of the store for people and checks: no cluster, no claim, nothing written."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import and_, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from persistence.engine.urls import Address, parse
from persistence.game.tables import matches, participants
from server.errors import BadInput, BadSetting, NotFound, Unavailable
from server.eventlog.ports import StoredLog
from server.ids import ActorId, actor_id
from server.settings import Settings

if TYPE_CHECKING:
    from persistence.sql_store import SqlStore

LATEST: Final = "latest"


class MatchLine(msgspec.Struct, frozen=True):
    """A stored match. Wall times in ms since 1970, 0 for never; `events` counts its log."""

    match: str
    phase: str
    mode: str
    map_name: str
    players: int
    team_scores: list[int]
    winner: str | None
    time_ms: int
    events: int
    created_wall_ms: int
    ended_wall_ms: int


def existing(settings: Settings) -> Address:
    """Where the store is. Raises `BadSetting` where there is none to read."""
    if settings.store.url.startswith("memory"):
        raise BadSetting("store.url", "a memory store has nothing to read")
    address = parse(settings.store.url)
    if address.dialect == "sqlite" and not address.path.is_file():
        raise BadSetting("store.url", f"there is no database {address.path}; run `garrison demo` or `garrison migrate`")
    return address


@asynccontextmanager
async def connection(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """A connection for SQL. Raises `BadSetting`, and `Unavailable` where the store does not answer
    or has other tables."""
    address = existing(settings)
    engine = create_async_engine(address.url)
    try:
        async with engine.connect() as opened:
            yield opened
    except (SQLAlchemyError, OSError) as error:
        why = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise Unavailable(f"cannot read {address.shown}: {why}") from None
    finally:
        await engine.dispose()


@asynccontextmanager
async def store(settings: Settings) -> AsyncIterator["SqlStore"]:
    """The engine's own store, opened. Raises `BadSetting`, `Unavailable`."""
    from server.main import build_store

    existing(settings)
    opened = build_store(settings)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


async def read_match(settings: Settings, name: str) -> tuple[ActorId, StoredLog]:
    """Match `name` (or `latest`) with its whole log. Raises `NotFound` and as `store`."""
    identity = await find_match(settings, name)
    async with store(settings) as opened:
        log = await opened.read_log("match", identity)
    if log is None or log.next_seq == 1:
        raise NotFound(f"no match {name!r}; `garrison matches` lists them")
    return identity, log


async def list_matches(settings: Settings, limit: int, *, ended: bool = False) -> list[MatchLine]:
    """The newest matches of the store, ended ones only if asked. Errors as `connection`."""
    players = (
        select(func.count())
        .select_from(participants)
        .where(participants.c.match_id == matches.c.match_id)
        .scalar_subquery()
    )
    names = [name for name in MatchLine.__struct_fields__ if name not in {"match", "players", "events"}]
    columns: list[Any] = [
        matches.c.match_id.label("match"),
        players.label("players"),
        (matches.c.next_seq - 1).label("events"),
        *(matches.c[name] for name in names),
    ]
    statement = (
        select(*columns)
        .where(and_(matches.c.next_seq > 1, *([matches.c.phase == "ended"] if ended else [])))
        .order_by(matches.c.created_wall_ms.desc(), matches.c.match_id)
        .limit(limit)
    )
    async with connection(settings) as opened:
        rows = (await opened.execute(statement)).mappings().all()
    return [msgspec.convert({str(name): row[name] for name in row}, MatchLine) for row in rows]


async def find_match(settings: Settings, name: str) -> ActorId:
    """The id of match `name`; `latest` is the newest ended one, or the newest if none has ended.
    Raises `NotFound` where there is none."""
    if name != LATEST:
        try:
            return actor_id("match", name)
        except BadInput:
            raise NotFound(f"no match {name!r}; `garrison matches` lists them") from None
    for ended in (True, False):
        if newest := await list_matches(settings, 1, ended=ended):
            return actor_id("match", newest[0].match)
    raise NotFound("the store has no match yet")
