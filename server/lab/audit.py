"""`garrison audit` (hidden): what clients were promised, against what the store has.

The demo runs it in a process of its own after a clean stop. A bot's ledger says, for each entity,
the last version that an answer acknowledged, and for each match the number after its last
acknowledged event. Every version and every event above what is stored is one lost change; so is what
the bots themselves saw undone while they played.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import App, Parameter

from game import replay as replays
from game.messages import Assist, Death, Kill, Medal, Objective, Score
from persistence.sql_store import SqlStore
from server.cli.common import Config, Json, Set, err, out, read_settings
from server.cli.stored import opened_store
from server.errors import BadSetting, Corrupt
from server.eventlog.ports import StoredLog
from server.ids import actor_id, kind_of, parse_actor_id
from server.settings import Settings

READ_AT_ONCE: Final = 500
REPORTED: Final = (Kill, Death, Assist, Medal, Objective, Score)


class Ledger(msgspec.Struct):
    """The bots' ledger, as `garrison_bots.ledger` writes it. `entities`: actor id to the last acknowledged version.
    `matches`: match to the number after its last acknowledged event. `changes` counts every
    acknowledged change; `lost` those that were gone while the bots still played."""

    entities: dict[str, int] = {}
    matches: dict[str, int] = {}
    changes: int = 0
    lost: int = 0
    lost_from: list[str] = []


class Findings(msgspec.Struct):
    """`lost_from` names up to twenty entities that lack something."""

    match_events_stored: int = 0
    matches_stored: int = 0
    matches_ended: int = 0
    replays_verified: int = 0
    acknowledged_changes: int = 0
    acknowledged_changes_lost: int = 0
    lost_from: list[str] = []

    def lacks(self, name: str, acknowledged: int, stored: int) -> None:
        if acknowledged > stored:
            self.acknowledged_changes_lost += acknowledged - stored
            if len(self.lost_from) < 20:
                self.lost_from.append(f"{name}: {acknowledged} acknowledged, {stored} stored")


def audit(
    *,
    ledger: Annotated[Path, Parameter(help="What the bots wrote down.")],
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Compare a ledger of acknowledged changes with the store; no cluster may be running."""
    try:
        promised = msgspec.json.decode(ledger.read_bytes(), type=Ledger)
    except (OSError, msgspec.DecodeError) as error:
        raise BadSetting("ledger", f"cannot read {ledger}: {error}") from None
    found = asyncio.run(compare(read_settings(config, set_), promised))
    for line in found.lost_from:
        err().print(f"lost from {line}", markup=False)
    if json:
        print(msgspec.json.encode(found).decode())
    else:
        out().print(f"{found.acknowledged_changes:,} acknowledged, {found.acknowledged_changes_lost:,} lost")
    return 0


async def compare(settings: Settings, promised: Ledger) -> Findings:
    """Read everything that `promised` names. Raises `BadSetting`, `Unavailable`."""
    found = Findings(acknowledged_changes=promised.changes, acknowledged_changes_lost=promised.lost)
    found.lost_from += promised.lost_from
    async with opened_store(settings) as opened:
        await _entities(opened, promised.entities, found)
        for match in sorted(promised.matches):
            log = await opened.read_log("match", actor_id("match", match))
            _match(match, promised.matches[match], log, found)
    return found


async def _entities(opened: SqlStore, promised: Mapping[str, int], found: Findings) -> None:
    ids = [parse_actor_id(name) for name in sorted(promised)]
    for kind in sorted({kind_of(identity) for identity in ids}):
        mine = [identity for identity in ids if kind_of(identity) == kind]
        for begin in range(0, len(mine), READ_AT_ONCE):
            batch = mine[begin : begin + READ_AT_ONCE]
            rows = await opened.read(kind, batch)
            for identity in batch:
                stored = rows[identity].state_version if identity in rows else 0
                found.lacks(identity, promised[identity], stored)


def _match(match: str, promised_next: int, log: StoredLog | None, found: Findings) -> None:
    found.lacks(f"match/{match}", promised_next - 1, log.next_seq - 1 if log is not None else 0)
    if log is None:
        return
    found.matches_stored += 1
    try:
        report = replays.verify(log)
        found.match_events_stored += sum(isinstance(step.record.event, REPORTED) for step in replays.steps(log))
    except Corrupt as error:
        err().print(f"match {match} does not verify: {error.message}", markup=False)
        return
    if report.state.phase == "ended":
        found.matches_ended += 1
        found.replays_verified += 1


def register(app: App) -> None:
    app.command(audit, name="audit", show=False)
