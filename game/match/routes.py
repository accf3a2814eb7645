"""The actors that answer the messages of matches, and the read model that answers which are live."""

from collections.abc import Mapping
from typing import Any, Final

from game import messages as m
from game.console.read_models import after, cursor_of, place_cursor
from game.history import live
from game.match import messages as mm
from game.match.actor import Match
from game.routing import HOSTS, PLAYERS, of_match
from server.actors.actor import Caller
from server.actors.app import AnyRoute, QueryRoute, Route
from server.wire.messages import Request

PAGES_OF: Final = (10, 25, 50, 100, 250, 500)
"""Sizes of the pages that are asked of the nodes, so that clients who want nearly the same share an answer."""
ROWS_A_MESSAGE: Final = 10
"""Rows of a list that weigh as much in the sender's rate as a message."""


def _page(caller: Caller, message: m.MatchList) -> dict[str, Any]:
    after(message.cursor)  # a bad one is refused here, and not by every node
    limit = next(size for size in PAGES_OF if size >= message.limit)
    page: dict[str, Any] = {"limit": limit, "cursor": message.cursor, "outside": 1}
    filters = live.asked(message)._asdict()
    page |= {name: value for name, value in filters.items() if value}
    return page if caller.role == "service" else {**page, "public": 1}


def _list_cost(message: m.MatchList) -> int:
    return 1 + message.limit // ROWS_A_MESSAGE


def _merged(rows: list[Any]) -> list[Any]:
    """Newest first; of two rows for one match (it is moving) the one with the later clock. A node that did not look at
    all of its matches says how far: what stands behind that comes on a later page, and the place, as a list, last."""
    by_match: dict[str, m.MatchRow] = {}
    for row in sorted((row for row in rows if "until" not in row), key=lambda row: int(row["time_ms"])):
        fields = {name: row[name] for name in m.MatchRow.__struct_fields__ if name in row}
        by_match[row["match"]] = m.MatchRow(**fields)
    found = sorted(by_match.values(), key=_order)
    until = min((list(row["until"]) for row in rows if "until" in row), default=None)
    return found if until is None else [*(row for row in found if _order(row) <= until), until]


def _order(row: m.MatchRow) -> list[Any]:
    return [-row.created_wall_ms, row.match]


def _matches(message: m.MatchList, rows: list[Any], missing: list[str]) -> m.Matches:
    until = rows[-1] if rows and isinstance(rows[-1], list) else None
    newest = (rows if until is None else rows[:-1])[: message.limit]
    if len(newest) == message.limit:
        return m.Matches(message.id, newest, missing, cursor_of(newest[-1]))
    return m.Matches(message.id, newest, missing, None if until is None else place_cursor(until))


MATCH_ROUTES: Final[Mapping[type[Request], AnyRoute]] = {
    m.MatchCreate: Route(Match, Match.create, of_match, HOSTS),
    m.MatchJoin: Route(Match, Match.join, of_match, PLAYERS),
    m.MatchLeave: Route(Match, Match.leave, of_match, PLAYERS),
    m.MatchStart: Route(Match, Match.start, of_match, HOSTS),
    m.MatchReport: Route(Match, Match.report, of_match, HOSTS),
    m.MatchTick: Route(Match, Match.tick, of_match, HOSTS),
    m.MatchEnd: Route(Match, Match.end, of_match, HOSTS),
    mm.MatchInvite: Route(Match, Match.invite, of_match),
    mm.MatchAllow: Route(Match, Match.allow, of_match, HOSTS),
    mm.MatchDescribe: Route(Match, Match.describe, of_match, HOSTS),
    mm.MatchReserve: Route(Match, Match.reserve, of_match, HOSTS),
    mm.MatchKick: Route(Match, Match.kick, of_match, HOSTS),
    mm.MatchUnkick: Route(Match, Match.unkick, of_match, HOSTS),
    mm.MatchSuccessor: Route(Match, Match.successor, of_match, HOSTS),
    mm.MatchPassHost: Route(Match, Match.pass_host, of_match, HOSTS),
    m.MatchGet: Route(Match, Match.get, of_match),
    m.MatchList: QueryRoute("live_matches", _page, _matches, merge=_merged, cost=_list_cost),
}
