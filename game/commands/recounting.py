"""The recount of careers over a store: matches in several processes, then sums by pages of players.

    Recounting(settings, processes).run(report)          compares; the cluster may live meanwhile
    Recounting(settings, processes, mends=True).run(…)   makes it right too, by pages, a transaction each

Of a match the order of reading makes that nothing false is said of a living cluster: first whether all of its results
are told, then its log, then the rows of its players. So a result that is told later is waited for, and not missed.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from game.careers import recount
from game.careers.recount import Difference, Mending
from persistence.game.mending import mend_rows, mend_sums, open_estates
from persistence.game.recount_queries import MAX_PAIRS, MAX_SUMS, NamesAsked, page_of, row_of
from server.cli.processes import in_processes
from server.cli.stored import check_there, opened_store
from server.drivers import build_store_queries, load_app
from server.errors import BadSetting, Corrupt, UnknownRules
from server.ids import actor_id
from server.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from server.storage.queries import StoreQueries

T = TypeVar("T")
PAGE: Final = 500
BATCH: Final = 20
"""Matches that a process counts before it tells what it found."""
PLAYERS_A_PAGE: Final = 200
LISTED: Final = 1_000
"""Differences that are told one by one; all are counted."""
NAMED: Final = 100
"""Matches of a kind that are named; all are counted."""
KEPT: Final = 10_000
"""Rows to be mended that a check remembers, so that the sums of their players are compared as they will be."""
STATEMENT_S: Final = 120.0
"""Time of a statement: a page of players with very many matches each takes longer than a question of a client."""


class Head(msgspec.Struct, frozen=True):
    """A match that is over, as its row says: see `recount_matches`."""

    match: str
    birth: int
    told: bool
    counts: bool


class BatchFound(msgspec.Struct):
    """Findings of a few matches. `kinds`: names of those that could not be counted anew, or not wholly."""

    matches: int = 0
    events: int = 0
    waiting: int = 0
    differences: list[Difference] = []
    mendings: list[Mending] = []
    kinds: list[tuple[str, str]] = []


class Kind(msgspec.Struct):
    """Matches of a kind: how many, and the names of the first."""

    count: int = 0
    named: list[str] = []


class Report(msgspec.Struct):
    """Findings of a recount so far. `waiting` are results that are not told yet. `differences` counts all, `listed`
    has the first, `tables` counts them by table and what is wrong; `mended`: rows and pages of sums that were changed.

    `kinds` of matches that are no differences: `gone` (no log; their rows are summed up), `unknown_rules` (of a version
    that is not here), `damaged`, `redacted` (somebody of it was erased, and gets nothing), `disputed` (the results in
    the log say other streaks, time or medals than a count of its events by this program)."""

    matches: int = 0
    events: int = 0
    players: int = 0
    rows_without_logs: int = 0
    waiting: int = 0
    differences: int = 0
    tables: dict[str, int] = {}
    listed: list[Difference] = []
    kinds: dict[str, Kind] = {}
    mended: int = 0

    def take(self, found: BatchFound) -> None:
        self.matches += found.matches
        self.events += found.events
        self.waiting += found.waiting
        self.note(found.differences)
        for kind, name in found.kinds:
            self.name(kind, name)

    def note(self, differences: Sequence[Difference]) -> None:
        self.differences += len(differences)
        self.listed += differences[: LISTED - len(self.listed)]
        for each in differences:
            key = f"{each.table}: {each.what}"
            self.tables[key] = self.tables.get(key, 0) + 1

    def name(self, kind: str, match: str) -> None:
        found = self.kinds.setdefault(kind, Kind())
        found.count += 1
        if len(found.named) < NAMED:
            found.named.append(match)


class Recounting:
    """See the module's head. Raises `BadSetting` for a store that is not there, or, where it `mends`, is in use;
    `Unavailable`."""

    def __init__(self, settings: Settings, processes: int, mends: bool = False) -> None:
        store = replace(settings.store, statement_timeout_s=max(STATEMENT_S, settings.store.statement_timeout_s))
        self._settings, self._processes, self._mends = replace(settings, store=store), processes, mends
        self._kept: dict[str, list[Mending]] = {}
        self._kept_rows = 0

    def run(self, report: Report, show: Callable[[], None] = lambda: None) -> None:
        """Count all matches, then all sums; `show` is called now and then."""
        check_there(self._settings)
        if self._mends:
            self._change(lambda connection: None)
        for found in self._matches():
            report.take(found)
            self._take(report, found.mendings)
            show()
        for differences, players in self._sums(report):
            report.note(differences)
            report.players += players
            show()

    def _take(self, report: Report, mendings: list[Mending]) -> None:
        if self._mends and mendings:
            report.mended += self._change(lambda connection: mend_rows(connection, mendings))
        elif not self._mends:
            for mending in mendings[: max(0, KEPT - self._kept_rows)]:
                row = mending.stored or mending.due
                assert row is not None
                self._kept.setdefault(row.player, []).append(mending)
            self._kept_rows += len(mendings)

    def _change(self, work: "Callable[[Connection], T]") -> T:
        """Do `work` in a transaction, during which no node begins to run."""
        import migrations
        from persistence.engine.urls import parse

        url = self._settings.store.url

        def unused(connection: "Connection") -> T:
            if live := migrations.live_nodes(connection):
                raise BadSetting(
                    "store.url", f"{', '.join(live)} runs on {parse(url).shown}: stop every node before this"
                )
            if left := open_estates(connection):
                why = f"{', '.join(left)} has left a journal: start it again, and stop it, or `garrison forget` it"
                raise BadSetting("store.url", why)
            return work(connection)

        return asyncio.run(migrations.run(url, unused))

    # ---- matches ----

    def _matches(self) -> Iterator[BatchFound]:
        """Findings of all matches, a batch after another."""
        jobs = (
            (self._settings, page[first : first + BATCH])
            for page in self._pages()
            for first in range(0, len(page), BATCH)
        )
        if self._processes == 1:
            return (count_batch(*job) for job in jobs)
        return in_processes(self._processes, PAGE // BATCH, count_batch, jobs)

    def _pages(self) -> Iterator[list[Head]]:
        after = ""
        while page := self._ask("recount_matches", after=after, limit=PAGE):
            yield msgspec.convert(page, list[Head])
            after = page[-1]["match"]

    def _ask(self, query: str, **params: Any) -> list[dict[str, Any]]:
        async def ask() -> list[dict[str, Any]]:
            queries = build_store_queries(self._settings)
            try:
                return await queries.run(query, params)
            finally:
                await queries.close()

        return asyncio.run(ask())

    # ---- sums ----

    def _sums(self, report: Report) -> Iterator[tuple[list[Difference], int]]:
        """Findings of all sums, a page of players after another: names up to the last of a page, the last page
        without an end."""
        after, more = "", True
        while more:
            names = [row["player"] for row in self._ask("recount_players", after=after, limit=PLAYERS_A_PAGE)]
            more = len(names) == PLAYERS_A_PAGE
            upto = names[-1] if more else ""
            yield from self._page(report, names, NamesAsked(after, upto))
            after = upto

    def _page(self, report: Report, names: list[str], asked: NamesAsked) -> Iterator[tuple[list[Difference], int]]:
        gone = self._ask("recount_gone", after=asked.after, upto=asked.upto)[0]
        report.rows_without_logs += gone["rows"]
        if self._mends:
            found = self._change(lambda connection: mend_sums(connection, asked))
            report.mended += len({(each.table, each.player, each.mode, each.season, each.match) for each in found})
            yield found, len(names)
            return
        rows = self._ask("recount_page", after=asked.after, upto=asked.upto)
        if len(rows) >= MAX_SUMS:
            if len(names) < 2:
                raise Corrupt(f"more than {MAX_SUMS:,} sums belong to player {''.join(names) or asked.after}")
            half = len(names) // 2
            yield from self._page(report, names[:half], NamesAsked(asked.after, names[half - 1]))
            yield from self._page(report, names[half:], NamesAsked(names[half - 1], asked.upto))
            return
        differences: list[Difference] = []
        mendings = [mending for name in names for mending in self._kept.pop(name, ())]
        for row in self._ask("recount_groundless", after=asked.after, upto=asked.upto):
            findings = recount.groundless(row_of(row))
            differences += findings.differences
            mendings += findings.mendings
        yield [*differences, *recount.page_differences(page_of(rows), mendings)], len(names)


# ---- the work of other processes ------------------------------------------------------------------------------------


def count_batch(settings: Settings, heads: list[Head]) -> BatchFound:
    """Count a few matches anew and compare. An error of the store itself goes up, and ends the command."""
    load_app(settings)  # modes of a studio's own
    return asyncio.run(_count_batch(settings, heads))


async def _count_batch(settings: Settings, heads: list[Head]) -> BatchFound:
    found = BatchFound(matches=len(heads))
    queries = build_store_queries(settings)
    try:
        async with opened_store(settings) as store:
            for head in heads:
                await _count(found, head, store, queries)
    finally:
        await queries.close()
    return found


async def _count(found: BatchFound, head: Head, store: Any, queries: "StoreQueries") -> None:
    try:
        log = await store.read_log("match", actor_id("match", head.match))
        gone = log is None or not log.chunks
        match = None if gone else recount.recounted(head.match, log, head.counts)
    except UnknownRules:
        found.kinds.append(("unknown_rules", head.match))
        return
    except Corrupt:
        found.kinds.append(("damaged", head.match))
        return
    if match is None:
        found.kinds.append(("gone" if gone else "damaged", head.match))
        return
    if match.birth != head.birth:  # gone meanwhile, and its name is used again
        return
    found.events += match.events
    if log.redactions:
        found.kinds.append(("redacted", head.match))
    if match.disputed:
        found.kinds.append(("disputed", head.match))
    pairs = [(player, head.match) for player in (*match.rows, *match.others)]
    rows = []
    for first in range(0, len(pairs), MAX_PAIRS):
        rows += await queries.run("recount_rows", {"pairs": pairs[first : first + MAX_PAIRS]})
    findings = recount.row_differences(match, map(row_of, rows), head.told)
    found.waiting += findings.waiting
    found.differences += findings.differences
    found.mendings += findings.mendings
