"""Reports on stored matches and players, for the command line and the admin API. Read only, by
SQLAlchemy on a connection of their own: they work with no cluster running."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from persistence.engine.urls import FIELD, Address, parse
from persistence.game.tables import matches, participants
from server.errors import BadSetting, GarrisonError, Unavailable

UNDEFINED_TABLE: Final = "42P01"
"""PostgreSQL's word for it."""


class StoredMatch(msgspec.Struct, frozen=True):
    """A match as its row has it: the projection may be a moment behind the log of a live one.
    `events` is the number of stored events."""

    match: str
    phase: str
    mode: str
    map_name: str
    host: str
    players: int
    team_scores: list[int]
    time_ms: int
    created_wall_ms: int
    ended_wall_ms: int
    end_reason: str | None
    winner: str | None
    events: int


class StoredLine(msgspec.Struct, frozen=True):
    """A participant's totals."""

    player: str
    team: int | None
    present: bool
    kills: int
    deaths: int
    assists: int
    medals: int
    objectives: int
    score: int


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection for the functions below. Raises `BadSetting` for a SQLite file that is not there
    or cannot be written, and for a database without its tables, `Unavailable` for what else keeps the store
    from answering."""
    address = parse(url)
    if address.missing:
        raise BadSetting(FIELD, f"no database at {address.path}: run `garrison migrate`")
    engine = create_async_engine(address.url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            yield connection
    except (SQLAlchemyError, OSError) as error:
        raise _explain(address, getattr(error, "orig", None) or error) from None
    finally:
        await engine.dispose()


async def stored_matches(connection: AsyncConnection, limit: int = 20, phase: str | None = None) -> list[StoredMatch]:
    """The newest stored matches first; those in `phase` only, if given."""
    players = (
        select(func.count())
        .select_from(participants)
        .where(participants.c.match_id == matches.c.match_id)
        .scalar_subquery()
    )
    wanted = select(*_columns(), players).where(matches.c.next_seq > 1)
    if phase is not None:
        wanted = wanted.where(matches.c.phase == phase)
    newest = wanted.order_by(matches.c.created_wall_ms.desc(), matches.c.match_id).limit(limit)
    return [_match(row) for row in await connection.execute(newest)]


async def stored_lines(connection: AsyncConnection, match: str) -> list[StoredLine]:
    """The participants of `match`, best score first, then most kills."""
    c = participants.c
    rows = await connection.execute(
        select(c.player_id, c.team, c.present, c.kills, c.deaths, c.assists, c.medals, c.objectives, c.score)
        .where(c.match_id == match)
        .order_by(c.score.desc(), c.kills.desc(), c.player_id)
    )
    return [StoredLine(*row) for row in rows]


def _explain(address: Address, cause: BaseException) -> GarrisonError:
    why = str(cause).partition("\n")[0]
    code = (getattr(cause, "sqlite_errorcode", 0) or 0) & 0xFF
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):  # a WAL is shared memory
        return BadSetting(FIELD, f"{address.path} and its folder must be writable: {why}")
    if "no such table" in why or getattr(cause, "sqlstate", "") == UNDEFINED_TABLE:
        return BadSetting(FIELD, f"{address.shown} lacks tables: run `garrison migrate`")
    return Unavailable(f"database {address.shown}: {why}")


def _columns() -> list[Any]:
    c = matches.c
    return [
        c.match_id,
        c.phase,
        c.mode,
        c.map_name,
        c.host,
        c.team_scores,
        c.time_ms,
        c.created_wall_ms,
        c.ended_wall_ms,
        c.end_reason,
        c.winner,
        c.next_seq,
    ]


def _match(row: Any) -> StoredMatch:
    match, phase, mode, map_name, host, scores, time_ms, created, ended, reason, winner, next_seq, players = row
    return StoredMatch(
        match,
        phase,
        mode,
        map_name,
        host,
        players,
        list(scores),
        time_ms,
        created,
        ended,
        reason,
        winner,
        next_seq - 1,
    )
