"""The checkers of ownership: what the store took, in its order, and what nodes let go. Pure.

Each takes the audit (`history.Audit`) or what the store holds, and returns its violations as
sentences, none if all is well.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from game import replay
from game.match.state import MatchState
from game.player.state import PlayerState
from server import states
from server.errors import Corrupt
from server.eventlog.ports import StoredLog
from server.ids import NodeAddress
from server.settings import StoreSettings
from server.storage.memory import EntityRow, MemoryDatabase
from tests.sim.history import Audit, Deleted, Judged, Released, Wrote

Violations = list[str]
LEASE_S: Final = StoreSettings().lease_period_s
SLOW_CLOCK: Final = 0.9
MAX_CLAIMS_AFTER: Final = 10
"""Changes of owner that an entity may see after the storm: taken from a node that died in it, gone
home as nodes come back, settled, and looked at once more."""


def one_writer(audit: Audit) -> Violations:
    """Rows change only under their newest epoch, which never falls; it rises with each change of the
    owner and has one owner for ever; versions and logs only grow."""
    owners: dict[tuple[str, int], object] = {}
    deleted: dict[str, int] = {}
    """The highest epoch of rows of a name that were deleted."""
    out = []
    for entry in audit:
        if isinstance(entry, Deleted):
            deleted[entry.id] = max(deleted.get(entry.id, 0), entry.before.epoch)
        if not isinstance(entry, Wrote):
            continue
        before, after, what = entry.before, entry.after, f"{entry.statement} of {entry.id} by {entry.node}"
        epoch_before = before.epoch if before is not None else 0
        if before is None and after.epoch <= deleted.get(entry.id, 0):
            out.append(f"{what} at {entry.at:.3f}: epoch {after.epoch} was one of a row that was deleted")
        if after.epoch < epoch_before:
            out.append(f"{what} at {entry.at:.3f}: epoch {epoch_before} became {after.epoch}")
        if after.owner is not None:
            first = owners.setdefault((entry.id, after.epoch), after.owner)
            if first != after.owner:
                out.append(f"{what} at {entry.at:.3f}: epoch {after.epoch} was of {first} and is of {after.owner}")
        if before is None:
            continue
        if entry.epoch is not None and entry.epoch != before.epoch:
            out.append(f"{what} at {entry.at:.3f}: under epoch {entry.epoch}, the newest was {before.epoch}")
        content = (before.state_epoch, before.state_version, before.next_seq, before.head, before.state)
        if content == (after.state_epoch, after.state_version, after.next_seq, after.head, after.state):
            continue
        if after.state_epoch < before.state_epoch or after.next_seq < before.next_seq:
            out.append(f"{what} at {entry.at:.3f}: {before[2:5]} became {after[2:5]}")
        if after.next_seq == before.next_seq and after.state_version <= before.state_version:
            out.append(f"{what} at {entry.at:.3f}: version {before.state_version} became {after.state_version}")
    return out


def taken_from_the_dead_only(audit: Audit) -> Violations:
    """A claim takes from nobody, from itself, or from a run that is over; a migration goes to a run
    that is up. Nobody who is over claims."""
    out = []
    for entry in audit:
        if not isinstance(entry, Wrote) or (entry.before is not None and entry.after.owner == entry.before.owner):
            continue
        what = f"{entry.statement} of {entry.id} at {entry.at:.3f}"
        if entry.statement == "claim" and entry.owner_state in ("up", "evicting"):
            out.append(f"{what}: {entry.after.owner} took it from a node that is {entry.owner_state}")
        if entry.statement in ("claim", "migrate") and entry.to_state != "up":
            out.append(f"{what}: it went to {entry.after.owner}, which is {entry.to_state}")
    return out


def deleted_when_over(audit: Audit) -> Violations:
    """A row is deleted with its log only where nobody owns it, and nobody has to be told anything of it."""
    out = []
    for entry in audit:
        if isinstance(entry, Deleted) and (entry.before.owner is not None or entry.is_spared):
            why = f"it was of {entry.before.owner}" if entry.before.owner is not None else "it was to be kept"
            out.append(f"{entry.node} deleted {entry.id} at {entry.at:.3f}, and {why}")
    return out


def released_by_the_owner(audit: Audit) -> Violations:
    """No acknowledgement after ownership is lost: what a node lets go it holds at that moment, or it
    is stored under its epoch already."""
    epochs: dict[str, int] = {}
    stored: dict[tuple[str, int], int] = {}
    out = []
    for entry in audit:
        if isinstance(entry, Wrote):
            epochs[entry.id] = entry.after.epoch
            stored[entry.id, entry.after.state_epoch] = entry.after.state_version
        elif (
            isinstance(entry, Released)
            and epochs.get(entry.id, 0) != entry.epoch
            and stored.get((entry.id, entry.epoch), 0) < entry.version
        ):
            out.append(
                f"{entry.node} let version {entry.version} of {entry.id} go at {entry.at:.3f} under {entry.epoch},"
                f" the newest is {epochs.get(entry.id)}"
            )
    return out


def judged_rightly(audit: Audit, period_s: float) -> Violations:
    """A run becomes `dead` only when its lease has run out, or its process is gone; an eviction is
    the majority's; `dead` and `left` are final, and only such a run's row is pruned; no run begins twice, and each
    has a higher incarnation than all before, whichever rows are left. Who judges has itself held its
    lease for a full period (`period_s`, less what a slow clock makes of it)."""
    begun: dict[object, None] = {}
    newest = 0
    out = []
    for entry in audit:
        if not isinstance(entry, Judged):
            continue
        what = f"{entry.statement} by {entry.node} at {entry.at:.3f}: {entry.about} {entry.before} -> {entry.after}"
        if not entry.before and entry.about in begun:
            out.append(f"{what}: it was there before")
        if not entry.before:
            if entry.about.incarnation <= newest:
                out.append(f"{what}: {newest} was given out before")
            newest = max(newest, entry.about.incarnation)
        begun[entry.about] = None
        if entry.after == "pruned":
            if entry.before not in ("dead", "left"):
                out.append(f"{what}: it was not over")
        elif entry.before == "dead" or (entry.before == "left" and entry.after != "dead"):
            out.append(f"{what}: that was final")
        if entry.before in ("up", "evicting") and entry.after == "dead":
            proven = entry.statement == "bury" and not entry.alive
            if entry.left_s > 0 and not proven:
                out.append(f"{what}: its lease had {entry.left_s:.3f} s to go")
        if entry.statement in ("bury_expired", "evict") and entry.steady_s < period_s * SLOW_CLOCK:
            out.append(f"{what}: the judge had held its own lease for {entry.steady_s:.3f} s only")
        if entry.after == "evicting" and not _is_majority(entry.side, entry.live):
            out.append(f"{what}: {entry.side} is no majority of {entry.live}")
    return out


def _is_majority(side: Sequence[NodeAddress], live: Sequence[NodeAddress]) -> bool:
    held = [node for node in live if node in side]
    if 2 * len(held) == len(live):
        return min(live) in held
    return 2 * len(held) > len(live)


def claims_bounded(audit: Audit, since: float, until: float, bound: int = MAX_CLAIMS_AFTER) -> Violations:
    """Between `since` and `until` the ownership of an entity changes at most `bound` times."""
    changes = Counter(
        entry.id
        for entry in audit
        if isinstance(entry, Wrote)
        and since <= entry.at <= until
        and entry.before is not None
        and entry.after.epoch != entry.before.epoch
    )
    return [f"{id} changed its owner {count} times after the storm" for id, count in changes.items() if count > bound]


def replays(entities: Mapping[str, EntityRow]) -> Violations:
    """Each stored match is, recomputed from its chunks, what its log and its row say."""
    out = []
    for id, entity in entities.items():
        if entity.next_seq == 1:
            continue
        try:
            report = replay.verify(StoredLog(entity.next_seq, entity.head, entity.chunks))
        except Corrupt as error:
            out.append(f"{id}: {error}")
            continue
        if entity.state is not None and entity.state_version == entity.next_seq - 1:
            row = states.decoder(MatchState)(entity.state)
            if row != report.state:
                out.append(f"{id}: its row is not what its log makes")
    return out


def results_once(entities: Mapping[str, EntityRow], rosters: Mapping[str, Sequence[str]]) -> Violations:
    """Each player's totals hold the results of its match, which is over, exactly once."""
    out = []
    for match, players in rosters.items():
        entity = entities[f"match/{match}"]
        state = replay.final_state(StoredLog(entity.next_seq, entity.head, entity.chunks))
        for name in players:
            held = entities.get(f"player/{name}")
            player = msgspec.msgpack.decode((held.state if held else None) or b"\x80", type=PlayerState)
            line = state.players[name]
            got, due = (player.matches, player.kills, player.medals), (1, line.kills, line.medals)
            if got != due:
                out.append(f"player/{name} has {got} matches, kills and medals, {match} gave {due}")
    return out


def recorded_once(
    audit: Audit, entities: Mapping[Any, EntityRow], recorded: Mapping[tuple[str, int], Sequence[str]]
) -> Violations:
    """Every event that a node has recorded was recorded once, and the store says that it was by that node: so no other
    one reports it where the memory of either is lost. A name that was given out again has other events."""
    deleted = {entry.id for entry in audit if isinstance(entry, Deleted)}
    out = []
    for (id, seq), nodes in sorted(recorded.items()):
        if id in deleted or id not in entities:
            continue
        notes = entities[id].recorders
        firsts = [first for first in notes if first <= seq]
        noted = notes[max(firsts)].address.node if firsts else "nobody"
        if list(nodes) != [noted]:
            out.append(f"event {seq} of {id}: recorded by {', '.join(nodes)}, and noted as that of {noted}")
    return out


def check_store(
    audit: Audit, database: MemoryDatabase, rosters: Mapping[str, Sequence[str]], calm: tuple[float, float]
) -> Violations:
    """Everything that the store's side of a run can show. `calm`: from the end of all faults until
    the nodes begin to stop."""
    entities = {str(id): entity for id, entity in sorted(database.entities.items())}
    return [
        *one_writer(audit),
        *taken_from_the_dead_only(audit),
        *deleted_when_over(audit),
        *released_by_the_owner(audit),
        *judged_rightly(audit, LEASE_S),
        *claims_bounded(audit, *calm),
        *replays(entities),
        *results_once(entities, rosters),
    ]
