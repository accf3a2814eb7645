"""Contents of the store against what clients were told, and against each other. Part of `garrison audit`.

Version numbers show a change that is missing, not one that is stored wrong: somebody's SQL, a bad disk or a bug in a
mapping leaves every number as it was. So three more things are compared:

    what clients were told    name and emblem of each profile, the events of each match (by digest)
    logs with themselves      every log of the store verifies: checksums, hash chain, keyframes, the end
    rows with logs            each ended match's row and scoreboard, and each player's totals, which are the sum
                              of the matches that its rows of `careers` name
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Set
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import Select, Table, select

from game import replay as replays
from game.match import endings
from game.match.state import MatchState
from game.player.state import PlayerState
from persistence.engine.queries import StoreQuery
from persistence.game import tables
from persistence.game.match import MatchMapping, ParticipantRows
from server.errors import Corrupt
from server.eventlog.ports import StoredLog

PAGE: Final = 500
"""Rows that are read at once."""
TOTALS: Final = ("matches", "wins", "kills", "deaths", "assists", "medals")
_MATCH: Final = MatchMapping()
_LINES: Final = ParticipantRows()


class StoreReads(Protocol):
    """The part of `server.storage.queries.StoreQueries` that is used."""

    async def run(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]: ...


class After(msgspec.Struct, frozen=True):
    """A page: `limit` keys after `after`."""

    after: str = ""
    limit: int = PAGE


class Keys(msgspec.Struct, frozen=True):
    keys: list[str]


def _keys_of(table: Table, key: str) -> StoreQuery:
    column = table.c[key]

    def page(given: After) -> Select[Any]:
        return select(column.label("key")).where(column > given.after).order_by(column)

    return StoreQuery(After, page)


def _scoreboard(given: Keys) -> Select[Any]:
    c = tables.participants.c
    columns = [c[name] for name in _LINES.columns]
    return select(c.match_id, c.player_id, *columns).where(c.match_id.in_(given.keys)).order_by(c.match_id, c.player_id)


def _rows(given: Keys) -> Select[Any]:
    c = tables.matches.c
    return select(c.match_id, *(c[name] for name in _MATCH.columns)).where(c.match_id.in_(given.keys))


def _careers(given: Keys) -> Select[Any]:
    c = tables.careers.c
    return select(c.player_id, c.match_id, c.birth).where(c.player_id.in_(given.keys))


QUERIES: Final = {
    "audit_careers": StoreQuery(Keys, _careers, max_rows=10_000_000),
    "audit_players": _keys_of(tables.players, "player_id"),
    "audit_matches": _keys_of(tables.matches, "match_id"),
    "audit_match_rows": StoreQuery(Keys, _rows),
    "audit_scoreboards": StoreQuery(Keys, _scoreboard, max_rows=10_000_000),
}
"""To be run by a `SqlStoreQueries` of the audit's own: they are no application's."""


async def pages(queries: StoreReads, name: str) -> AsyncIterator[list[str]]:
    """All keys of a kind, page by page, in order."""
    after = ""
    while keys := [row["key"] for row in await queries.run(name, {"after": after, "limit": PAGE})]:
        yield keys
        after = keys[-1]


# ---- what clients were told -------------------------------------------------------------------


class Shown(msgspec.Struct, frozen=True):
    """A profile's name and emblem as last acknowledged (None: never, or not known any more), and those whose outcome
    the client does not know."""

    shown: list[str] | None = None
    open: list[list[str]] = []


def profile_differs(told: Shown, state: PlayerState) -> str | None:
    """How the stored profile differs from what its client was told; None if it does not."""
    stored = [state.display_name, state.emblem]
    if told.shown is None or stored == told.shown or stored in told.open:
        return None
    return f"{told.shown} acknowledged, {stored} stored"


def events_differ(log: StoredLog, first: int, last: int, digest: str) -> str | None:
    """How events `first` to `last` of a log that verifies differ from those that the client knows, of which `digest`
    is the chained hash (`garrison_bots.ledger.chained`). Events that the log lacks are no matter of this."""
    computed = b""
    for step in replays.steps(log):
        number = step.record.seq
        if first <= number <= last:
            packed = msgspec.msgpack.encode(step.record.event)
            computed = hashlib.sha256(computed + number.to_bytes(8, "big") + packed).digest()
    if log.next_seq <= last or computed.hex() == digest:
        return None
    return f"events {first} to {last} are others than those that were published"


async def counted_of(queries: StoreReads, players: list[str]) -> dict[str, set[tuple[str, int]]]:
    """The matches, by name and birth, that are in the totals of each of `players`, as their rows of `careers` say."""
    found: dict[str, set[tuple[str, int]]] = {player: set() for player in players}
    for row in await queries.run("audit_careers", {"keys": players}):
        found[row["player_id"]].add((row["match_id"], row["birth"]))
    return found


# ---- rows against logs ------------------------------------------------------------------------


class Careers:
    """Results of every ended match in the store, by player, to be compared with the players' rows."""

    def __init__(self) -> None:
        self._results: dict[str, list[tuple[str, int, tuple[int, ...]]]] = {}

    def add(self, match: str, state: MatchState) -> None:
        """Note the results of an ended match, by its log."""
        for player, line in state.players.items():
            won = int(endings.won(state, player))
            counts = (1, won, line.kills, line.deaths, line.assists, line.medals)
            self._results.setdefault(player, []).append((match, state.created_wall_ms, counts))

    def differs(self, player: str, state: PlayerState, counted: Set[tuple[str, int]]) -> str | None:
        """How the totals of `player` differ from the sum of those matches, by name and birth, that are `counted` by its
        rows of `careers`; None if they do not. A match that is not settled yet counts in neither."""
        results = [counts for match, birth, counts in self._results.get(player, ()) if (match, birth) in counted]
        summed = [sum(column) for column in zip(*results, strict=True)] if results else [0] * len(TOTALS)
        stored = [getattr(state, name) for name in TOTALS]
        wrong = [
            f"{name} {have}, the logs say {due}"
            for name, have, due in zip(TOTALS, stored, summed, strict=True)
            if have != due
        ]
        return "; ".join(wrong) or None


async def projections_differ(queries: StoreReads, ended: Mapping[str, MatchState]) -> list[tuple[str, str]]:
    """Matches of `ended` whose row or scoreboard is not what their log makes of it, each with how it differs."""
    names = sorted(ended)
    rows = {row.pop("match_id"): row for row in await queries.run("audit_match_rows", {"keys": names})}
    scoreboards: dict[str, dict[str, dict[str, Any]]] = {}
    for row in await queries.run("audit_scoreboards", {"keys": names}):
        scoreboards.setdefault(row.pop("match_id"), {})[row.pop("player_id")] = row
    found: list[tuple[str, str]] = []
    for name in names:
        state = ended[name]
        due = {column: values[0] for column, values in zip(_MATCH.columns, _MATCH.encode([state]), strict=True)}
        due["team_scores"] = list(state.team_scores)
        if why := _fields_differ(due, rows.get(name, {})):
            found.append((name, f"its row: {why}"))
        found += [(name, why) for why in _lines_differ(state, scoreboards.get(name, {}))]
    return found


def _lines_differ(state: MatchState, stored: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    rows = zip(*_LINES.encode([""], [0], [state], [None]), strict=True)
    due = {player: dict(zip(_LINES.columns, columns, strict=True)) for _, player, _, *columns in rows}
    for player in sorted(due.keys() | stored.keys()):
        if player not in due or player not in stored:
            yield f"its scoreboard: {player} is {'missing' if player in due else 'not in the log'}"
        elif why := _fields_differ(due[player], stored[player]):
            yield f"its scoreboard: {player}: {why}"


def _fields_differ(due: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
    wrong = [name for name in due if name not in stored or stored[name] != due[name]]
    return "; ".join(f"{name} {stored.get(name)!r}, the log says {due[name]!r}" for name in wrong)


def verified(log: StoredLog) -> tuple[MatchState | None, str]:
    """The state at the end of a log that verifies, or None and why it does not."""
    try:
        return replays.verify(log).state, ""
    except Corrupt as error:
        return None, f"its log does not verify: {error.message}"
