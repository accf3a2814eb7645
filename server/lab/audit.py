"""`garrison audit` (hidden): what clients were promised, against what the store has.

The demo runs it in a process of its own after a clean stop. A bot's ledger says, for each entity,
the last version that an answer acknowledged, and for each match the number after its last
acknowledged event. Every version and every event above what is stored is one lost change, and so is what
the bots themselves saw undone while they played, and a profile that shows something else than
was acknowledged. A *difference* is anything else that is not as it should be: events that are not those
that were published, a log that does not verify, a row that is not what the logs say (see
`contents.py`). Exit code 1 if there is one of either.
"""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import App, Parameter

from game import replay as replays
from game.match.state import MatchState
from game.messages import Assist, Death, Kill, Medal, Objective, Score
from persistence.sql_queries import SqlStoreQueries
from persistence.sql_store import SqlStore
from server.cli.common import Config, Json, Set, err, out, print_json
from server.cli.config import read_settings
from server.cli.stored import opened_store
from server.errors import BadSetting, Corrupt
from server.eventlog.ports import StoredLog
from server.ids import actor_id, kind_of, parse_actor_id
from server.lab import contents, halves
from server.settings import Settings

READ_AT_ONCE: Final = 500
NAMED: Final = 20
"""Findings of a sort that are named."""
REPORTED: Final = (Kill, Death, Assist, Medal, Objective, Score)


class Ledger(msgspec.Struct):
    """The bots' ledger, as `garrison_bots.ledger` writes it. `entities`: actor id to the last acknowledged version.
    `profiles`: player to the contents that were acknowledged. `matches`: match to the number after its last
    acknowledged event. `events`: match to first and last number and digest of the events that its client knows.
    `changes` counts every acknowledged change; `lost` those that were gone while the bots still played."""

    entities: dict[str, int] = {}
    profiles: dict[str, contents.Shown] = {}
    matches: dict[str, int] = {}
    events: dict[str, tuple[int, int, str]] = {}
    changes: int = 0
    lost: int = 0
    lost_from: list[str] = []


class Findings(msgspec.Struct):
    """`lost_from` names up to twenty entities that lack something, `differences_in` up to twenty other differences."""

    match_events_stored: int = 0
    matches_stored: int = 0
    matches_ended: int = 0
    replays_verified: int = 0
    acknowledged_changes: int = 0
    acknowledged_changes_lost: int = 0
    differences: int = 0
    ghosts: int = 0
    unequal_friendships: int = 0
    lost_from: list[str] = []
    differences_in: list[str] = []

    def lacks(self, name: str, acknowledged: int, stored: int) -> None:
        if acknowledged > stored:
            self.lost(name, acknowledged - stored, f"{acknowledged} acknowledged, {stored} stored")

    def lost(self, name: str, changes: int, why: str) -> None:
        self.acknowledged_changes_lost += changes
        if len(self.lost_from) < NAMED:
            self.lost_from.append(f"{name}: {why}")

    def differs(self, name: str, why: str | None) -> None:
        """Count a difference, if `why` tells of one."""
        if why:
            self.differences += 1
            if len(self.differences_in) < NAMED:
                self.differences_in.append(f"{name}: {why}")

    def apart(self, ghosts: list[halves.Finding], friendships: list[halves.Finding]) -> None:
        """Count what the halves of pairs do not agree on."""
        self.ghosts, self.unequal_friendships = len(ghosts), len(friendships)
        for name, why in (*ghosts[:NAMED], *friendships[:NAMED]):
            self.differences_in.append(f"{name}: {why}")

    @property
    def good(self) -> bool:
        return not (self.acknowledged_changes_lost or self.differences or self.ghosts or self.unequal_friendships)


def audit(
    *,
    ledger: Annotated[Path, Parameter(help="What the bots wrote down.")],
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Compare a ledger of acknowledged changes with the store, and the store's rows with its logs; no cluster may be
    running. Exits with 1 if anything is lost or different."""
    try:
        promised = msgspec.json.decode(ledger.read_bytes(), type=Ledger)
    except (OSError, msgspec.DecodeError) as error:
        raise BadSetting("ledger", f"cannot read {ledger}: {error}") from None
    found = asyncio.run(compare(read_settings(config, set_), promised))
    for line in found.lost_from:
        err().print(f"lost from {line}", markup=False)
    for line in found.differences_in:
        err().print(f"different: {line}", markup=False)
    if json:
        print_json(msgspec.json.encode(found))
    else:
        told = f"{found.acknowledged_changes:,} acknowledged, {found.acknowledged_changes_lost:,} lost"
        out().print(f"{told}; {found.differences:,} differences between what was told, rows and logs")
        out().print(f"{found.ghosts:,} ghosts, {found.unequal_friendships:,} unequal friendships")
    return 0 if found.good else 1


async def compare(settings: Settings, promised: Ledger) -> Findings:
    """Read everything that `promised` names, and every match and player of the store. Raises `BadSetting`,
    `Unavailable`."""
    found = Findings(acknowledged_changes=promised.changes, acknowledged_changes_lost=promised.lost)
    found.lost_from += promised.lost_from
    async with opened_store(settings) as opened:
        queries = SqlStoreQueries(settings.store, {**contents.QUERIES, **halves.QUERIES})
        try:
            await _Audit(opened, queries, promised, found).run()
        finally:
            await queries.close()
    return found


class _Audit:
    """A comparison under way."""

    def __init__(self, opened: SqlStore, queries: contents.StoreReads, promised: Ledger, found: Findings) -> None:
        self._store, self._queries = opened, queries
        self._promised, self._found = promised, found
        self._careers = contents.Careers()
        self._rosters: dict[str, frozenset[str]] = {}
        """Players in each match that goes on, by its log."""

    async def run(self) -> None:
        await self._entities()
        seen: set[str] = set()
        async for names in contents.pages(self._queries, "audit_matches"):
            seen.update(names)
            ended: dict[str, MatchState] = {}
            for match in names:
                log = await self._store.read_log("match", actor_id("match", match))
                state = self._match(match, log)
                if state is not None and state.phase == "ended":
                    ended[match] = state
                    self._careers.add(match, state)
                elif state is not None:
                    self._rosters[match] = frozenset(name for name, line in state.players.items() if line.present)
            for match, why in await contents.projections_differ(self._queries, ended):
                self._found.differs(f"match/{match}", why)
        for match in sorted(self._promised.matches.keys() - seen):
            self._match(match, None)
        async for names in contents.pages(self._queries, "audit_players"):
            await self._players(names)
        self._found.apart(
            await halves.ghosts(self._queries, self._rosters), await halves.unequal_friendships(self._queries)
        )

    async def _entities(self) -> None:
        promised = self._promised.entities
        ids = [parse_actor_id(name) for name in sorted(promised)]
        for kind in sorted({kind_of(identity) for identity in ids}):
            mine = [identity for identity in ids if kind_of(identity) == kind]
            for begin in range(0, len(mine), READ_AT_ONCE):
                batch = mine[begin : begin + READ_AT_ONCE]
                rows = await self._store.read(kind, batch)
                for identity in batch:
                    stored = rows[identity].state_version if identity in rows else 0
                    self._found.lacks(identity, promised[identity], stored)

    async def _players(self, names: list[str]) -> None:
        """Compare rows of players with what their clients were told, and with the logs."""
        ids = {name: actor_id("player", name) for name in names}
        rows = await self._store.read("player", list(ids.values()))
        counted = await contents.counted_of(self._queries, names)
        for name, identity in ids.items():
            if identity not in rows:
                continue
            row = rows[identity]
            if row.state is None or isinstance(row.state, Corrupt):
                self._found.differs(identity, "its row cannot be read" if row.state_version else None)
                continue
            told = self._promised.profiles.get(name, contents.Shown())
            due = self._promised.entities.get(identity, 0)
            if due <= row.state_version and (why := contents.profile_differs(told, row.state)):
                self._found.lost(identity, 1, why)  # else the version has told already
            self._found.differs(identity, self._careers.differs(name, row.state, counted[name]))

    def _match(self, match: str, log: StoredLog | None) -> MatchState | None:
        """Compare a match's log with itself and with what the ledger knows; its state if it verifies."""
        found, name, promised = self._found, f"match/{match}", match in self._promised.matches
        if promised:
            found.lacks(name, self._promised.matches[match] - 1, log.next_seq - 1 if log is not None else 0)
        if log is None:
            return None
        state, why = contents.verified(log)
        found.differs(name, why)
        if promised:
            found.matches_stored += 1
        if state is None or not promised:
            return state
        found.match_events_stored += sum(isinstance(step.record.event, REPORTED) for step in replays.steps(log))
        if match in self._promised.events:
            found.differs(name, contents.events_differ(log, *self._promised.events[match]))
        if state.phase == "ended":
            found.matches_ended += 1
            found.replays_verified += 1
        return state


def register(app: App) -> None:
    app.command(audit, name="audit", show=False)
