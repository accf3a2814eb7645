"""Answers of the admin API about matches and players: the live ones from the nodes' memory, the stored ones from the
store."""

from collections.abc import Mapping
from typing import Any, Final

from game.console.read_models import place_cursor
from server.actors.app import AdminContext, ConsoleRoute
from server.errors import NotFound
from server.ids import actor_id, key_of


async def live(context: AdminContext, params: Mapping[str, str]) -> Any:
    """Live matches, newest first: the rows of `live_matches`, by `mode`, `map_name`, `property` (`name=value`, several
    with commas between) and `tag`; in `missing` the nodes without an answer. Where `next` is not null the nodes have
    looked only so far: it is the `cursor` to go on with, and rows behind it come again."""
    rows, missing = await context.read("live_matches", params)
    ends = [row["until"] for row in rows if "until" in row]
    return {
        "rows": [row for row in rows if "until" not in row],
        "missing": missing,
        "next": place_cursor(min(ends)) if ends else None,
    }


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


async def match_players(context: AdminContext, params: Mapping[str, str]) -> Any:
    """The players of one stored match with their totals, best first; none where it is not stored."""
    match = key_of(actor_id("match", params["match"]))
    return {"rows": await context.query("match_players", {"match": match})}


async def players(context: AdminContext, params: Mapping[str, str]) -> Any:
    """Stored players by name, from the name `since` on: at most `limit` (50), each with status, match, party and number
    of friends as last stored."""
    return {"rows": await context.query("stored_players", params)}


async def player(context: AdminContext, params: Mapping[str, str]) -> Any:
    """A player: `stored`, as the row of `players` (null where there is none), and in `rows` what the nodes that have it
    in memory say of its presence, devices and party. 404 if every node answered and there is neither."""
    name = key_of(actor_id("player", params["player"]))
    rows, missing = await context.read("player_here", {"player": name})
    found = [row for row in await context.query("stored_players", {"since": name, "limit": 1}) if row["player"] == name]
    if not rows and not missing and not found:
        raise NotFound(f"no player {name}")
    return {"stored": found[0] if found else None, "rows": rows, "missing": missing}


async def career(context: AdminContext, params: Mapping[str, str]) -> Any:
    """A player's career as stored: `lines` by mode and season, `medals` by name, `ratings`, in millionths."""
    asked = {"player": key_of(actor_id("player", params["player"]))}
    asked |= {name: params[name] for name in ("mode", "season") if name in params}
    lines = await context.query("career_lines", asked)
    if not lines:
        raise NotFound(f"no player {asked['player']}")
    medals = await context.query("career_medals", asked)
    ratings = await context.query("career_ratings", {"player": asked["player"]})
    answer = {"lines": lines, "medals": medals, "ratings": ratings}
    return {name: [row for row in rows if row["matches"] is not None] for name, rows in answer.items()}


async def waiting(context: AdminContext, params: Mapping[str, str]) -> Any:
    """Results of matches that are over and that their players have not stored: at most `limit` (100), from match
    `since` on. They are told until they are: look after the row or the node of a player that stays here."""
    return {"rows": await context.query("waiting_results", params)}


CONSOLE: Final[Mapping[str, ConsoleRoute]] = {
    "matches": live,
    "matches/{match}": board,
    "stored-matches": stored,
    "stored-matches/{match}": match_players,
    "players": players,
    "players/{player}": player,
    "players/{player}/career": career,
    "waiting-results": waiting,
}
