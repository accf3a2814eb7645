"""The memory twin of the stores: same rules, no disk. For tests, simulation and `memory:`.

Nodes that share one `MemoryDatabase` are one cluster. Every call is one indivisible step, as a
transaction would be. States are kept encoded, so that nobody shares a struct by accident.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from inspect import iscoroutinefunction
from itertools import count, pairwise
from math import inf
from typing import Any

import msgspec

from server import states
from server.errors import Corrupt, Internal, Unavailable
from server.eventlog.ports import Chunk, Recorder, Redaction
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId, actor_id, key_of, kind_of
from server.liveness.majority import holds_majority
from server.liveness.ports import Estate, NodeRow, NodeState
from server.runtime.clock import Clock
from server.storage.ports import (
    Absent,
    Change,
    Claim,
    ClaimResult,
    DatabaseIdentity,
    Elsewhere,
    EntityMove,
    Erased,
    MoveResult,
    Owned,
    Reminder,
    Stored,
    WriteResult,
)

MAX_CLAIMS = 500
PERSONAL = frozenset({"player", "friends", "standing"})
"""Kinds whose keys are people."""
_NUMBERS = count(1)


class NodeRun(msgspec.Struct):
    """A row of `nodes`; `lease_until` is on the database's clock, infinite without a lease."""

    state: NodeState
    lease_until: float
    journal: str = ""
    database: str = ""
    generation: int = 0
    heir: object = None

    @property
    def is_over(self) -> bool:
        return self.state in ("dead", "left")


class EntityRow(msgspec.Struct):
    """An owned row. A released one keeps the last owner's incarnation and token in `last`."""

    epoch: int = 0
    state_epoch: int = 0
    state_version: int = 0
    owner: NodeAddress | None = None
    last: tuple[int, int] = (0, 0)
    state: bytes | None = None
    next_seq: int = 1
    head: bytes = b""
    chunks: list[Chunk] = []
    open_facts: bool = False
    is_pinned: bool = False
    redactions: tuple[Redaction, ...] = ()
    recorders: dict[int, Recorder] = {}
    """Nodes that record the log's events, by the number of the first."""


class Tombstone(msgspec.Struct):
    """The rest of an erased person; see table `tombstones`. The twin has no need of a hash."""

    epoch: int = 0
    barred: int = 2
    until_s: float = 0.0


class MemoryDatabase:
    """The database that the nodes of a cluster share. Its clock is the store's clock; `uuid` is the name by which it
    is told from others, by default one of its own."""

    def __init__(self, clock: Clock, uuid: str | None = None) -> None:
        self.clock, self.identity = clock, DatabaseIdentity(uuid or f"{next(_NUMBERS):032x}")
        self.nodes: dict[NodeAddress, NodeRun] = {}
        self.entities: dict[ActorId, EntityRow] = {}
        self.reminders: dict[tuple[ActorId, str], Reminder] = {}
        self.facts: dict[str, Callable[[ActorId, Any], bool]] = {}
        """For each kind that has facts: whether one is open in a state, as a table's column says it."""
        self.additions: dict[str, Callable[[str, int, Any], Iterable[tuple[Hashable, Any]]]] = {}
        """For each kind that brings rows along (`persistence.engine.mapping.Additions`): identity and content of those
        that a state (key, version stored before, state) has; `rows` are all that there are."""
        self.rows: dict[Hashable, Any] = {}
        self.last_incarnation = self.deleted_epoch = 0
        self.over: dict[str, Callable[[bytes], int]] = {}
        """For each logged kind that is over at some time: since when, by a stored state, in Unix ms; 0: not yet."""
        self.tombstones: dict[str, Tombstone] = {}

    def has_open_facts(self, identity: ActorId, state: Any) -> bool:
        """Tell whether the row of `identity` is to say that a fact of `state` is open."""
        is_open = self.facts.get(kind_of(identity))
        return is_open is not None and is_open(identity, state)

    def next_epoch(self, entity: EntityRow) -> int:
        """The epoch of a claim. A new row may be one of a name whose row was deleted: it begins above that."""
        return (entity.epoch or self.deleted_epoch) + 1

    def is_up(self, node: NodeAddress, generation: int | None = None) -> bool:
        run = self.nodes.get(node)
        return run is not None and run.state == "up" and generation in (None, run.generation)

    def is_succeeded(self, owner: NodeAddress | None, generation: int) -> bool:
        """Whether a process of a later generation speaks for the run of `owner`."""
        run = None if owner is None else self.nodes.get(owner)
        return run is not None and run.generation > generation

    def is_kept(self, entity: EntityRow) -> bool:
        """Whether a run that is not over owns it."""
        run = None if entity.owner is None else self.nodes.get(entity.owner)
        return run is not None and not run.is_over

    def is_pruned(self, node: NodeAddress) -> bool:
        """Whether that run was there once and has no row any more: it is over, and its journal closed."""
        return node not in self.nodes and 0 < node.incarnation <= self.last_incarnation


class MemoryStore:
    """All three of `server.storage.ports` over a `MemoryDatabase`. `live` says of each kind that lives
    on by itself whether an entity with this state still does (see `Store.orphans`), `facts` of each kind that has
    facts whether one is open, `here` of each whose states say so whether somebody is here (see `Store.strays`)."""

    def __init__(
        self,
        database: MemoryDatabase,
        state_types: Mapping[str, type[msgspec.Struct]],
        live: Mapping[str, Callable[[Any], bool]] | None = None,
        facts: Mapping[str, Callable[[ActorId, Any], bool]] | None = None,
        here: Mapping[str, Callable[[Any], bool]] | None = None,
    ) -> None:
        self.database = database
        database.facts.update(facts or {})
        self._live, self._here = dict(live or {}), dict(here or {})
        self._decoders = {kind: states.decoder(cls) for kind, cls in state_types.items()}

    async def open(self) -> None:
        pass

    @property
    def identity(self) -> DatabaseIdentity:
        return self.database.identity

    async def check(self) -> None:
        pass

    under_way = 0
    """A call is one step: between two there is none."""

    def surrender(self) -> None:
        for name in dir(self):
            if iscoroutinefunction(getattr(type(self), name, None)) and name != "close":
                setattr(self, name, _surrendered)

    async def close(self) -> None:
        pass

    # ---- nodes ----

    async def register_node(self, node: NodeId, lease_s: float | None, journal: str = "") -> Incarnation:
        database, now = self.database, self.database.clock.boot()
        left_s = 0.0
        for address, run in database.nodes.items():
            if address.node == node and run.state != "dead":
                if run.state != "left" and now < run.lease_until < inf:
                    left_s = max(left_s, run.lease_until - now)
                else:
                    run.state = "dead"
        if left_s:
            raise Unavailable(f"another run of node {node} still holds its lease", retry_after_s=left_s)
        database.last_incarnation += 1
        me = NodeAddress(node, Incarnation(database.last_incarnation))
        lease_until = inf if lease_s is None else now + lease_s
        database.nodes[me] = NodeRun("up", lease_until, journal, database.identity.uuid)
        return me.incarnation

    async def renew_lease(self, me: NodeAddress, lease_s: float, generation: int = 0) -> bool:
        if not self.database.is_up(me, generation):
            return False
        self.database.nodes[me].lease_until = self.database.clock.boot() + lease_s
        return True

    async def succeed_node(
        self, me: NodeAddress, generation: int, journal: str, lease_s: float | None, heir: object = None
    ) -> bool:
        heir, run = heir or self, self.database.nodes.get(me)
        if run is None or run.state != "up":
            return False
        repeated = (run.generation, run.heir, run.journal) == (generation, heir, journal)
        if run.generation != generation - 1 and not repeated:
            return False
        run.generation, run.heir, run.journal = generation, heir, journal
        run.lease_until = inf if lease_s is None else self.database.clock.boot() + lease_s
        return True

    async def bury_expired(self, spare: Collection[NodeAddress] = (), grace_s: float = 0.0) -> list[NodeAddress]:
        now = self.database.clock.boot()
        expired = []
        for address, run in self.database.nodes.items():
            more_s = grace_s if run.state == "up" and address in spare else 0.0
            if not run.is_over and run.lease_until <= now - more_s:
                run.state = "dead"
                expired.append(address)
        return sorted(expired)

    async def bury(self, address: NodeAddress, journal: str | None = None) -> bool:
        run = self.database.nodes.get(address)
        if run is None:
            return self.database.is_pruned(address)
        if not run.is_over and journal not in (None, run.journal):
            return False
        run.state = "dead"
        return True

    async def evict(self, suspects: Collection[NodeAddress], side: Collection[NodeAddress]) -> list[NodeAddress]:
        now, nodes = self.database.clock.boot(), self.database.nodes
        live = [address for address, run in nodes.items() if not run.is_over and run.lease_until > now]
        if not holds_majority(side, live):
            return []
        evicted = [node for node in sorted(set(suspects)) if self.database.is_up(node) and node not in side]
        for node in evicted:
            nodes[node].state = "evicting"
        return evicted

    async def retire_node(self, me: NodeAddress, all_stored: bool = True, generation: int = 0) -> None:
        run = self.database.nodes.get(me)
        if run is not None and not run.is_over and run.generation == generation:
            run.state = "left"
            if all_stored:
                run.journal = ""

    async def estates(self) -> list[Estate]:
        runs = self.database.nodes.items()
        known = ("", self.database.identity.uuid)
        estates = [(me, run) for me, run in runs if run.is_over and run.journal and run.database in known]
        return sorted(Estate(me, run.journal) for me, run in estates)

    async def close_estate(self, owner: NodeAddress) -> None:
        run = self.database.nodes.get(owner)
        if run is not None and run.is_over:
            run.journal = ""

    async def forget_estate(self, estate: Estate) -> bool:
        run = self.database.nodes.get(estate.owner)
        if run is None or not run.is_over or not run.journal or run.journal != estate.journal:
            return False
        run.journal = ""
        return True

    async def nodes(self) -> list[NodeRow]:
        """Every run of every node, ordered; `lease_left_s` is infinite for one without a lease."""
        now = self.database.clock.boot()
        rows = sorted(self.database.nodes.items(), key=lambda row: row[0])
        return [
            NodeRow(me.node, me.incarnation, run.state, run.lease_until - now, run.journal, run.generation)
            for me, run in rows
        ]

    async def living(self) -> list[NodeRow]:
        return [row for row in await self.nodes() if row.state in ("up", "evicting")]

    async def runs(self, of: Collection[NodeAddress]) -> dict[NodeAddress, NodeRow]:
        kept = {NodeAddress(row.node, row.incarnation): row for row in await self.nodes()}
        pruned = {node: NodeRow(*node, "dead", -inf) for node in of if self.database.is_pruned(node)}
        return {**pruned, **{node: kept[node] for node in of if node in kept}}

    async def prune_nodes(self, kept_s: float, limit: int) -> int:
        now, nodes = self.database.clock.boot(), self.database.nodes
        done = [node for node, run in sorted(nodes.items()) if run.is_over and not run.journal]
        old = [node for node in done if nodes[node].lease_until == inf or nodes[node].lease_until <= now - kept_s]
        for node in old[:limit]:
            del nodes[node]
        return len(old[:limit])

    # ---- fenced state ----

    async def claim(
        self,
        kind: str,
        claims: Sequence[Claim],
        me: NodeAddress,
        journals: Collection[str] | None = None,
        generation: int = 0,
    ) -> dict[ActorId, ClaimResult | Corrupt]:
        """See the port. A claim whose token is not newer than one of mine that the store has
        seen is refused with my own address, unless it is that very claim again."""
        if len(claims) > MAX_CLAIMS:
            raise Internal(f"at most {MAX_CLAIMS} claims at once, not {len(claims)}")
        self._known(kind, [claim.id for claim in claims])
        if claims and not self.database.is_up(me, generation):
            raise Unavailable(f"{me} is not up in the store and may claim nothing")
        return {claim.id: self._claim(kind, claim, me, journals) for claim in claims}

    def _claim(
        self, kind: str, claim: Claim, me: NodeAddress, journals: Collection[str] | None
    ) -> ClaimResult | Corrupt:
        if claim.id not in self.database.entities:
            if not claim.make:
                return Absent()
            stone = self.database.tombstones.get(key_of(claim.id)) if kind in PERSONAL else None
            if stone is not None and not self._revives(stone, claim):
                return Erased()
            floor = 0 if stone is None else stone.epoch + 1
            self.database.entities[claim.id] = EntityRow(epoch=floor, state_epoch=floor)
        entity = self.database.entities[claim.id]
        run, token = entity.last
        clean = entity.owner is None
        if entity.owner not in (None, me) and self._holds(entity.owner, journals):
            return Elsewhere(entity.owner)
        if run == me.incarnation and token >= claim.token:
            if entity.owner is None or token > claim.token:
                return Elsewhere(me)
        else:
            entity.epoch = self.database.next_epoch(entity)
            entity.owner, entity.last = me, (me.incarnation, claim.token)
        state = self._decode(kind, claim.id, entity)
        if isinstance(state, Corrupt):
            return state
        epoch, state_epoch = Epoch(entity.epoch), Epoch(entity.state_epoch)
        return Owned(
            epoch, state_epoch, entity.state_version, state, entity.next_seq, entity.head, clean, entity.open_facts
        )

    def _revives(self, stone: Tombstone, claim: Claim) -> bool:
        in_time = stone.until_s * 1000 <= self.database.clock.wall_ms()
        if stone.barred == 1 and (claim.revive == 2 or (claim.revive == 1 and in_time)):
            stone.barred = 0
        return stone.barred == 0

    def _holds(self, owner: NodeAddress, journals: Collection[str] | None) -> bool:
        """Whether a claim must leave `owner` its entity: it is not known dead or gone, or its
        journal cannot be read."""
        run = self.database.nodes.get(owner)
        if run is None:
            return not self.database.is_pruned(owner)
        if not run.is_over:
            return True
        return journals is not None and run.journal != "" and run.journal not in journals

    async def write(self, kind: str, changes: Sequence[Change]) -> dict[ActorId, WriteResult]:
        self._known(kind, [change.id for change in changes])
        encoded = [states.encode(change.state) for change in changes]
        return {change.id: self._write(change, data) for change, data in zip(changes, encoded, strict=True)}

    def _write(self, change: Change, data: bytes) -> WriteResult:
        entity = self.database.entities.get(change.id)
        if entity is None:
            return "fenced"
        if entity.epoch == change.epoch and entity.state_version < change.version:
            entity.state_epoch, entity.state_version, entity.state = change.epoch, change.version, data
            entity.open_facts = self.database.has_open_facts(change.id, change.state)
            additions = self.database.additions.get(kind_of(change.id))
            if additions is not None:
                for row, content in additions(key_of(change.id), change.stored, change.state):
                    self.database.rows.setdefault(row, content)
            return "written"
        already = entity.state_epoch == change.epoch and entity.state_version >= change.version
        return "written" if already else "fenced"

    async def release(
        self,
        kind: str,
        held: Sequence[tuple[ActorId, Epoch]],
        told: Collection[ActorId] = (),
        generation: int = 0,
    ) -> None:
        self._known(kind, [id for id, _ in held])
        for identity, epoch in held:
            entity = self.database.entities.get(identity)
            if entity is None or self.database.is_succeeded(entity.owner, generation):
                continue
            if entity.epoch == epoch:
                entity.owner = None
                entity.open_facts = entity.open_facts and identity not in told

    async def migrate(self, kind: str, moves: Sequence[EntityMove], generation: int = 0) -> dict[ActorId, MoveResult]:
        self._known(kind, [move.id for move in moves])
        encoded = [None if move.state is None else states.encode(move.state) for move in moves]
        return {move.id: self._migrate(move, data, generation) for move, data in zip(moves, encoded, strict=True)}

    def _migrate(self, move: EntityMove, data: bytes | None, generation: int) -> MoveResult:
        entity = self.database.entities.get(move.id)
        if entity is None:
            return "fenced"
        epoch = Epoch(move.epoch + 1)
        whole = move.next_seq in (0, entity.next_seq)
        held = entity.epoch == move.epoch and entity.owner is not None
        held = held and not self.database.is_succeeded(entity.owner, generation)
        if held and whole and self.database.is_up(move.to):
            entity.epoch, entity.owner, entity.last = epoch, move.to, (move.to.incarnation, move.token)
            if data is not None:
                self._write(Change(move.id, epoch, move.version, move.state, move.stored), data)
            return "moved"
        return "moved" if (entity.epoch, entity.owner) == (epoch, move.to) else "fenced"

    async def count_owned(self, kind: str) -> dict[NodeAddress, int]:
        self._known(kind)
        of_kind = (entity for id, entity in self.database.entities.items() if kind_of(id) == kind)
        return dict(Counter(entity.owner for entity in of_kind if entity.owner is not None))

    async def orphans(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        self._known(kind)
        if kind not in self._live and kind not in self.database.facts:
            return []
        entities = self.database.entities
        ids = sorted(id for id in entities if kind_of(id) == kind and (after is None or id > after))
        return [id for id in ids if self._is_orphan(kind, entities[id])][: max(limit, 0)]

    async def strays(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        self._known(kind)
        here, entities = self._here.get(kind), self.database.entities
        ids = sorted(id for id in entities if kind_of(id) == kind and (after is None or id > after))
        unowned = (id for id in ids if here is not None and not self.database.is_kept(entities[id]))
        states = ((id, entities[id].state) for id in unowned)
        found = [id for id, state in states if state is not None and here and here(self._decoders[kind](state))]
        return found[: max(limit, 0)]

    def _is_orphan(self, kind: str, entity: EntityRow) -> bool:
        if self.database.is_kept(entity):
            return False
        if entity.open_facts or kind not in self._live:
            return entity.open_facts
        if entity.state is None:
            return entity.next_seq > 1
        return entity.owner is not None or self._live[kind](self._decoders[kind](entity.state))

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]:
        self._known(kind, ids)
        found: dict[ActorId, Stored] = {}
        for identity in ids:
            entity = self.database.entities.get(identity)
            if entity is not None and (entity.state_version > 0 or entity.next_seq > 1):
                state = self._decode(kind, identity, entity)
                found[identity] = Stored(Epoch(entity.state_epoch), entity.state_version, state)
        return found

    # ---- erasure ----

    async def bar(self, key: str, until_s: float = 0.0) -> None:
        stone = self.database.tombstones.setdefault(key, Tombstone())
        stone.barred, stone.until_s = 2, max(stone.until_s, until_s)

    async def lift(self, key: str) -> bool:
        stone = self.database.tombstones.get(key)
        if stone is None or not stone.barred:
            return False
        stone.barred = 1
        return True

    async def pardon(self, key: str) -> None:
        if key in self.database.tombstones:
            self.database.tombstones[key].until_s = 0.0

    async def erase(self, kind: str, key: str) -> bool:
        database, identity = self.database, actor_id(kind, key)
        entity, stone = database.entities.get(identity), database.tombstones.get(key)
        if entity is not None and entity.owner is not None:
            return False
        if stone is None or stone.barred != 2:
            raise Internal("only what is barred can be erased")
        if entity is not None:
            stone.epoch = max(stone.epoch, entity.epoch)
            del database.entities[identity]
        for reminder in [reminder for reminder in database.reminders if reminder[0] == identity]:
            del database.reminders[reminder]
        return True

    async def floors(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Epoch]:
        stones = {id: self.database.tombstones.get(key_of(id)) for id in ids}
        return {id: Epoch(stone.epoch) for id, stone in stones.items() if stone is not None}

    # ---- reminders ----

    async def set_reminder(self, reminder: Reminder) -> bool:
        if not self._is_at(reminder.id, reminder.epoch):
            return False
        key = (reminder.id, reminder.name)
        kept = self.database.reminders.get(key)
        if kept is None or _is_older(kept, reminder):
            self.database.reminders[key] = reminder
        return True

    async def unset_reminder(self, reminder: Reminder) -> bool:
        if not self._is_at(reminder.id, reminder.epoch):
            return False
        key = (reminder.id, reminder.name)
        kept = self.database.reminders.get(key)
        if kept is not None and _is_older(kept, reminder):
            del self.database.reminders[key]
        return True

    async def drop_reminder(self, reminder: Reminder) -> None:
        key = (reminder.id, reminder.name)
        if self.database.reminders.get(key) == reminder:
            del self.database.reminders[key]

    async def due_reminders(self, until_ms: int, limit: int, after: Reminder | None = None) -> list[Reminder]:
        begin = (-1, "", "") if after is None else (after.due_ms, after.id, after.name)
        rows = sorted((reminder.due_ms, reminder.id, reminder.name) for reminder in self.database.reminders.values())
        due = [self.database.reminders[id, name] for due_ms, id, name in rows if due_ms <= until_ms]
        return [reminder for reminder in due if (reminder.due_ms, reminder.id, reminder.name) > begin][: max(limit, 0)]

    def _is_at(self, identity: ActorId, epoch: Epoch) -> bool:
        """Whether nobody has been given the actor since `epoch` was."""
        self._known(kind_of(identity))
        entity = self.database.entities.get(identity)
        return entity is not None and entity.epoch == epoch

    def _known(self, kind: str, ids: Sequence[ActorId] = ()) -> None:
        """Check the kind, and the port's promise about `ids`: locks are taken in their order."""
        if kind not in self._decoders:
            raise Internal(f"kind {kind} was not named to the store")
        assert all(kind_of(id) == kind for id in ids), f"all entities of one call are of one kind, {kind}"
        assert all(id < after for id, after in pairwise(ids)), f"ids are sorted and unique: {list(ids)}"

    def _decode(self, kind: str, identity: ActorId, entity: EntityRow) -> Any:
        if entity.state is None or entity.next_seq > 1:
            return None  # a log, where there is one, is the truth
        try:
            return self._decoders[kind](entity.state)
        except msgspec.MsgspecError as error:
            return Corrupt(f"{identity}: {error}")


async def _surrendered(*_given: object, **_named: object) -> None:
    raise Unavailable("this process has handed its run on: it sends no statement any more")


def _is_older(kept: Reminder, than: Reminder) -> bool:
    return (kept.epoch, kept.number) < (than.epoch, than.number)
