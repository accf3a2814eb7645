"""Matches as the store has them, for commands: no cluster, no claim, nothing written."""

import msgspec

from game.match.rules import LATEST
from server.cli.stored import check_there, opened_store
from server.drivers import build_store_queries
from server.errors import BadInput, NotFound
from server.eventlog.ports import StoredLog
from server.ids import ActorId, actor_id
from server.settings import Settings


class StoredMatch(msgspec.Struct, frozen=True):
    """A row of the store query `stored_matches`. `events` is the number of stored events."""

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
    pinned: bool = False


async def read_match(settings: Settings, name: str) -> tuple[ActorId, StoredLog]:
    """Match `name` (or `latest`) with its whole log. Raises `NotFound`, `BadSetting`, `Unavailable`."""
    identity = await find_match(settings, name)
    async with opened_store(settings) as store:
        log = await store.read_log("match", identity)
    if log is None or log.next_seq == 1:
        raise NotFound(f"no match {name!r}; `garrison matches` lists them")
    return identity, log


async def list_matches(settings: Settings, limit: int, phase: str | None = None) -> list[StoredMatch]:
    """The newest matches of the store. Raises `BadSetting`, `Unavailable`."""
    check_there(settings)
    queries = build_store_queries(settings)
    try:
        rows = await queries.run("stored_matches", {"limit": limit, "phase": phase})
    finally:
        await queries.close()
    return msgspec.convert(rows, list[StoredMatch])


async def find_match(settings: Settings, name: str) -> ActorId:
    """The id of match `name`, or of `match/NAME`, by which also one of an earlier version is found that is called
    `latest` or `--help`; `latest` is the newest ended one, or the newest if none has ended. Raises `NotFound`
    where there is none."""
    if name != LATEST:
        try:
            return actor_id("match", name.removeprefix("match/"))
        except BadInput:
            raise NotFound(f"no match {name!r}; `garrison matches` lists them") from None
    for phase in ("ended", None):
        if newest := await list_matches(settings, 1, phase):
            return actor_id("match", newest[0].match)
    raise NotFound("the store has no match yet")
