"""Answers of the admin API about matches: the live ones from the nodes' memory, the stored ones from the store."""

from collections.abc import Mapping
from typing import Any, Final

from server.actors.app import AdminContext, ConsoleRoute
from server.errors import NotFound
from server.ids import actor_id, key_of


async def live(context: AdminContext, params: Mapping[str, str]) -> Any:
    """Live matches, newest first: the rows of `live_matches`, and in `missing` the nodes without an answer."""
    rows, missing = await context.read("live_matches", params)
    return {"rows": rows, "missing": missing}


async def board(context: AdminContext, params: Mapping[str, str]) -> Any:
    """A live match: scoreboard and recent kills. 404 if every node answered and none has it."""
    match = key_of(actor_id("match", params["match"]))
    rows, missing = await context.read("match_board", {"match": match})
    if not rows and not missing:
        raise NotFound(f"no live match {match}")
    return {"rows": rows, "missing": missing}


async def stored(context: AdminContext, params: Mapping[str, str]) -> Any:
    """Stored matches, newest first: at most `limit` (20), only those in `phase` if it is given."""
    return {"rows": await context.query("stored_matches", params)}


async def stored_players(context: AdminContext, params: Mapping[str, str]) -> Any:
    """The players of one stored match with their totals, best first; none where it is not stored."""
    match = key_of(actor_id("match", params["match"]))
    return {"rows": await context.query("match_players", {"match": match})}


CONSOLE: Final[Mapping[str, ConsoleRoute]] = {
    "matches": live,
    "matches/{match}": board,
    "stored-matches": stored,
    "stored-matches/{match}": stored_players,
}
