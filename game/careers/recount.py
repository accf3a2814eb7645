"""Careers counted anew from logs, and how the store differs from that. Pure.

    recounted(name, log)                what a match gives to careers, from its log, by its own version of the rules
    row_differences(match, stored)      rows of `careers` that are stored of it, against those
    sums(rows)                          careers, medals and ratings, as sums over rows
    sum_differences(stored, due)        stored sums against those

A row is what one match gave one player, so a career can be proven in two steps: rows against logs, sums against rows.
Rows stay when retention has taken their logs, and then the second step proves what is left.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from game import replay
from game.careers.events import Gain, Outcome
from game.careers.ratings import FIRST
from game.careers.tally import Tally
from game.match import endings
from game.match.results import gain_of
from game.match.state import MatchState
from server.eventlog.ports import StoredLog

COUNTS: Final = ("matches", "wins", "kills", "deaths", "assists", "medals")
TOTALS: Final = (*COUNTS, "played_ms", "best_streak", "best_kills", "best_match")
RATINGS: Final = ("mu", "log_sigma", "matches")
Key = tuple[str, ...]
Table = dict[Key, tuple[Any, ...]]


class CareerRow(msgspec.Struct, frozen=True, gc=False):
    """A row of table `careers`."""

    player: str
    match: str
    birth: int
    ended_wall_ms: int
    gain: Gain


class Recounted(msgspec.Struct, frozen=True):
    """The part of a match that is over in careers: its due rows by player; nothing while `is_open`: results are not
    made yet. `others` took part, and nothing is due to them. `is_old`: an earlier version ended it, whose results have
    a line of the scoreboard alone. `disputed`: players of whom the log's own results say other streaks, time or medals
    than a count of its events by this program."""

    match: str
    birth: int
    ended_wall_ms: int
    events: int
    rows: dict[str, CareerRow] = {}
    others: list[str] = []
    is_open: bool = False
    is_old: bool = False
    disputed: list[str] = []


class Difference(msgspec.Struct, frozen=True):
    """A field of table `table` that is not what logs, or the rows that logs made, say. `field` is `row` where the whole
    row is missing (`stored` None) or has no ground (`recounted` None). `mode` is the group of a rating; `match` is
    empty for a sum."""

    table: str
    what: str
    """`missing`, `groundless`, `doubled` or `differs`."""
    player: str
    mode: str
    season: str
    field: str
    stored: Any
    recounted: Any
    match: str = ""


class Mending(msgspec.Struct, frozen=True):
    """A change of table `careers` that makes it right: take away the row `stored`, put the row `due`."""

    stored: CareerRow | None
    due: CareerRow | None


class Findings(msgspec.Struct):
    """Differences of a match, and what mends them; `waiting` counts results that are not told yet."""

    differences: list[Difference] = []
    mendings: list[Mending] = []
    waiting: int = 0


class Sums(msgspec.Struct):
    """Tables of sums, by primary key: `TOTALS` by player, mode and season; medals by those and their name; `RATINGS` by
    player and group."""

    totals: Table = {}
    medals: Table = {}
    ratings: Table = {}


# ---- rows against logs ----------------------------------------------------------------------------------------------


def recounted(name: str, log: StoredLog, counts: bool = True) -> Recounted | None:
    """Count match `name` anew; None where it is not over. `counts` false: it is not to count, whatever its log says.
    Raises `Corrupt`, `UnknownRules`."""
    tally, state = Tally(), MatchState()

    def events() -> Iterator[Any]:
        nonlocal state
        for step in replay.steps(log):
            state = step.after
            yield step.record.event

    tally.take_all(events())
    if state.phase != "ended":
        return None
    found = Recounted(name, state.created_wall_ms, state.ended_wall_ms, log.next_seq - 1)
    if state.outcome is not UNSET and not state.outcome.whole:
        return replace(found, is_open=True, others=endings.with_career(state) if counts else [])
    outcome = Outcome() if state.outcome is UNSET else state.outcome
    results = {result.player: result for result in outcome.results}
    rows, disputed = {}, []
    for player in endings.with_career(state) if counts else ():
        result = results.get(player)
        gain = gain_of(state, state.players[player], endings.won(state, player), result, outcome)
        rows[player] = CareerRow(player, name, found.birth, found.ended_wall_ms, as_stored(gain))
        counted = tally.of(player)
        if result is not None and (gain.best_streak, gain.played_ms, gain.names) != (
            counted.best_streak, counted.played_ms, counted.medals
        ):  # fmt: skip
            disputed.append(player)
    others = [player for player in state.players if player not in rows]
    return replace(found, rows=rows, others=others, is_old=state.outcome is UNSET, disputed=sorted(disputed))


def as_stored(gain: Gain) -> Gain:
    """A result as its row has it: PostgreSQL takes no NUL in names of medals."""
    if not any("\0" in name for name in gain.names):
        return gain
    return replace(gain, names={name.replace("\0", ""): count for name, count in gain.names.items()})


def row_differences(match: Recounted, stored: Iterable[CareerRow], told: bool) -> Findings:
    """The differences of the rows that are stored of a match and its players. `told`: all of its results were told
    before those rows were read, so that one which is not there is missing."""
    found = Findings()
    if match.is_open:
        found.waiting = len(match.others)
        return found
    rows: dict[str, list[CareerRow]] = {player: [] for player in (*match.rows, *match.others)}
    for row in stored:
        if row.player in rows and (row.birth == match.birth or row.ended_wall_ms == match.ended_wall_ms):
            rows[row.player].append(row)
    for player, mine in rows.items():
        due = match.rows.get(player)
        mine.sort(key=lambda row: (row.birth != match.birth, row.birth))
        # A match of an earlier version told no birth.
        own = mine.pop(0) if mine and mine[0].birth in (match.birth, 0) else None
        for row in mine:
            _note(found, "doubled", row, None)
        if due is None and own is not None:
            _note(found, "groundless", own, None)
        elif due is not None and own is None and told:
            _note(found, "missing", None, due)
        elif due is not None and own is None:
            found.waiting += 1
        elif due is not None and own is not None and (fields := list(_other_fields(own, due, match.is_old))):
            found.differences += [_row_difference("differs", due, *field) for field in fields]
            found.mendings.append(Mending(own, replace(due, birth=own.birth)))
    return found


def _note(found: Findings, what: str, stored: CareerRow | None, due: CareerRow | None) -> None:
    row = stored or due
    assert row is not None
    present, wanted = (None, "row") if stored is None else ("row", None)
    found.differences.append(_row_difference(what, row, "row", present, wanted))
    found.mendings.append(Mending(stored, due))


def groundless(row: CareerRow) -> Findings:
    """The finding of a row of a match that its player was not in, or that is not over."""
    found = Findings()
    _note(found, "groundless", row, None)
    return found


def _row_difference(what: str, row: CareerRow, field: str, stored: Any, due: Any) -> Difference:
    return Difference("careers", what, row.player, row.gain.mode, row.gain.season, field, stored, due, row.match)


def _other_fields(own: CareerRow, due: CareerRow, is_old: bool) -> Iterator[tuple[str, Any, Any]]:
    """Fields that differ, with what is stored and what is due. A row of a time when results told no mode stays so."""
    if own.ended_wall_ms != due.ended_wall_ms:
        yield "ended_wall_ms", own.ended_wall_ms, due.ended_wall_ms
    passed = ("mode", "season") if is_old and not own.gain.mode else ()
    for name in Gain.__struct_fields__:
        stored, wanted = getattr(own.gain, name), getattr(due.gain, name)
        if stored != wanted and name not in passed:
            yield name, stored, wanted


# ---- sums against rows ----------------------------------------------------------------------------------------------


def sums(rows: Iterable[CareerRow]) -> Sums:
    """The sums over rows that tell their mode: those that do not are of a time before there were any."""
    found = Sums()
    for row in rows:
        gain = row.gain
        if not gain.mode:
            continue
        _add_total(found.totals, row)
        for medal, earned in gain.names.items():
            key = (row.player, gain.mode, gain.season, medal)
            found.medals[key] = (found.medals.get(key, (0,))[0] + earned,)
        if gain.rating_group:
            rating = (row.player, gain.rating_group)
            mu, log_sigma, matches = found.ratings.get(rating, (FIRST.mu, FIRST.log_sigma, 0))
            found.ratings[rating] = (mu + gain.mu, log_sigma + gain.log_sigma, matches + 1)
    return found


def _add_total(totals: Table, row: CareerRow) -> None:
    gain, key = row.gain, (row.player, row.gain.mode, row.gain.season)
    *counts, streak, kills, best = totals.get(key, (0, 0, 0, 0, 0, 0, 0, 0, 0, ""))
    more = (1, int(gain.won), gain.kills, gain.deaths, gain.assists, gain.medals, gain.played_ms)
    if not best or (-gain.kills, row.match) < (-kills, best):
        kills, best = gain.kills, row.match
    counted = (count + some for count, some in zip(counts, more, strict=True))
    totals[key] = (*counted, max(streak, gain.best_streak), kills, best)


def sum_differences(stored: Sums, due: Sums) -> Iterator[Difference]:
    """How stored sums differ from those that are due."""
    yield from table_differences("career_totals", TOTALS, stored.totals, due.totals)
    yield from table_differences("career_medals", ("earned",), stored.medals, due.medals)
    yield from table_differences("ratings", RATINGS, stored.ratings, due.ratings)


def table_differences(table: str, names: Iterable[str], stored: Table, due: Table) -> Iterator[Difference]:
    """How the rows of a table of sums differ, by primary key: its player, and its mode and season, or its group. What
    is not known (None) is not compared."""
    columns = tuple(names)
    for key in sorted(stored.keys() | due.keys()):
        player, mode, season, *medal = (*key, "", "")[: max(3, len(key))]
        named = f"{medal[0]}: " if medal else ""
        if key not in stored or key not in due:
            what = "missing" if key in due else "groundless"
            present, wanted = ("row" if key in stored else None), ("row" if key in due else None)
            yield Difference(table, what, player, mode, season, f"{named}row", present, wanted)
            continue
        for name, is_there, wanted in zip(columns, stored[key], due[key], strict=True):
            if wanted is not None and is_there != wanted:
                yield Difference(table, "differs", player, mode, season, f"{named}{name}", is_there, wanted)


class SumsPage(msgspec.Struct):
    """The sums of some players, of one moment: stored ones, those that are due by rows, `players` with their counts,
    and `older` counts by player, mode and season, from before matches told their mode: no row says those."""

    stored: Sums
    due: Sums
    players: Table
    older: Table


def page_differences(page: SumsPage, mendings: Iterable[Mending] = ()) -> list[Difference]:
    """How the sums of a page differ from those that are due once its rows are mended."""
    due = mended(page.due, mendings)
    players = player_sums(due.totals, page.older)
    nothing = (0,) * len(COUNTS)
    known = {key: players.get(key, nothing) for key in page.players}
    return [*sum_differences(page.stored, due), *table_differences("players", COUNTS, page.players, known)]


def player_sums(totals: Table, older: Table) -> Table:
    """The counts of each player over all its modes, with the `older` ones."""
    found: Table = {}
    for (player, *_), line in (*totals.items(), *older.items()):
        before = found.get((player,), (0,) * len(COUNTS))
        found[(player,)] = tuple(count + more for count, more in zip(before, line, strict=False))
    return found


def mended(due: Sums, mendings: Iterable[Mending]) -> Sums:
    """Sums over rows once those are mended. Best values are not known (None) where a row goes that may have had
    them."""
    changes = list(mendings)
    if not changes:
        return due
    more = sums(change.due for change in changes if change.due is not None)
    less = sums(change.stored for change in changes if change.stored is not None)
    found = Sums(dict(due.totals), _without_nothing(_sum(due.medals, more.medals, less.medals), 0), dict(due.ratings))
    for key in more.totals.keys() | less.totals.keys():
        *counts, streak, kills, best = found.totals.get(key, (0,) * 9 + ("",))
        *added, new_streak, new_kills, new_best = more.totals.get(key, (0,) * 9 + ("",))
        taken = less.totals.get(key, (0,) * 10)
        sizes = tuple(count + some - gone for count, some, gone in zip(counts, added, taken, strict=False))
        if new_best and (not best or (-new_kills, new_best) < (-kills, best)):
            kills, best = new_kills, new_best
        bests = (None, None, None) if key in less.totals else (max(streak, new_streak), kills, best)
        found.totals[key] = (*sizes, *bests)
    for group in more.ratings.keys() | less.ratings.keys():
        lines = [sums.ratings.get(group, (*FIRST, 0)) for sums in (found, more, less)]
        mu, log_sigma, matches = (was + some - gone for was, some, gone in zip(*lines, strict=True))
        found.ratings[group] = (mu, log_sigma, matches)
    found.totals = _without_nothing(found.totals, 0)
    found.ratings = _without_nothing(found.ratings, 2)
    return found


def _sum(due: Table, more: Table, less: Table) -> Table:
    keys = due.keys() | more.keys() | less.keys()
    return {key: (due.get(key, (0,))[0] + more.get(key, (0,))[0] - less.get(key, (0,))[0],) for key in keys}


def _without_nothing(table: Table, place: int) -> Table:
    """The rows of a table of which the number at `place` is above none."""
    return {key: values for key, values in table.items() if values[place] > 0}
