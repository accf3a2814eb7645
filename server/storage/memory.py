"""The memory twin of the stores: same rules, no disk. For tests, simulation and `memory:`.

Nodes that share one `MemoryDatabase` are one cluster. Every call is one indivisible step, as a
transaction would be. States are kept encoded, so that nobody shares a struct by accident.
"""

from collections.abc import Collection, Mapping, Sequence
from math import inf
from typing import Any, Literal

import msgspec

from server.errors import Corrupt, Internal, Unavailable
from server.eventlog.ports import Chunk
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId
from server.runtime.clock import Clock
from server.storage.ports import Change, Claim, ClaimResult, Elsewhere, NodeRow, Owned, Stored, WriteResult

MAX_CLAIMS = 500


class NodeRun(msgspec.Struct):
    """A row of `nodes`; `lease_until` is on the database's clock, infinite without a lease."""

    state: Literal["up", "dead", "left"]
    lease_until: float


class Entity(msgspec.Struct):
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


class MemoryDatabase:
    """What the nodes of one cluster share. Its clock is the store's clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.nodes: dict[NodeAddress, NodeRun] = {}
        self.entities: dict[ActorId, Entity] = {}
        self.last_incarnation = 0

    def is_up(self, node: NodeAddress) -> bool:
        run = self.nodes.get(node)
        return run is not None and run.state == "up"


class MemoryStore:
    """`server.storage.ports.Store` over a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase, state_types: Mapping[str, type[msgspec.Struct]]) -> None:
        self.database = database
        self._decoders = {kind: msgspec.msgpack.Decoder(cls).decode for kind, cls in state_types.items()}

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    # ---- nodes ----

    async def register_node(self, node: NodeId, lease_s: float | None) -> Incarnation:
        database, now = self.database, self.database.clock.boot()
        left_s = 0.0
        for address, run in database.nodes.items():
            if address.node == node and run.state != "dead":
                if run.state == "up" and now < run.lease_until < inf:
                    left_s = max(left_s, run.lease_until - now)
                else:
                    run.state = "dead"
        if left_s:
            raise Unavailable(f"another run of node {node} still holds its lease", retry_after_s=left_s)
        database.last_incarnation += 1
        me = NodeAddress(node, Incarnation(database.last_incarnation))
        database.nodes[me] = NodeRun("up", inf if lease_s is None else now + lease_s)
        return me.incarnation

    async def renew_lease(self, me: NodeAddress, lease_s: float) -> bool:
        if not self.database.is_up(me):
            return False
        self.database.nodes[me].lease_until = self.database.clock.boot() + lease_s
        return True

    async def bury_expired(self, spare: Collection[NodeAddress] = (), grace_s: float = 0.0) -> list[NodeAddress]:
        now = self.database.clock.boot()
        expired = [
            address
            for address, run in self.database.nodes.items()
            if run.state == "up" and run.lease_until <= now - (grace_s if address in spare else 0.0)
        ]
        for address in expired:
            self.database.nodes[address].state = "dead"
        return sorted(expired)

    async def retire_node(self, me: NodeAddress) -> None:
        if self.database.is_up(me):
            self.database.nodes[me].state = "left"

    async def nodes(self) -> list[NodeRow]:
        """Every run of every node, ordered; `lease_left_s` is infinite for one without a lease."""
        now = self.database.clock.boot()
        rows = sorted(self.database.nodes.items())
        return [NodeRow(me.node, me.incarnation, run.state, run.lease_until - now) for me, run in rows]

    # ---- fenced state ----

    async def claim(self, kind: str, claims: Sequence[Claim], me: NodeAddress) -> dict[ActorId, ClaimResult]:
        """See the port. A claim whose token is not newer than one of mine that the store has
        seen is refused with my own address, unless it is that very claim again."""
        if len(claims) > MAX_CLAIMS:
            raise Internal(f"at most {MAX_CLAIMS} claims at once, not {len(claims)}")
        self._known(kind)
        if claims and not self.database.is_up(me):
            raise Unavailable(f"{me} is not up in the store and may claim nothing")
        return {claim.id: self._claim(kind, claim, me) for claim in claims}

    def _claim(self, kind: str, claim: Claim, me: NodeAddress) -> ClaimResult:
        entity = self.database.entities.setdefault(claim.id, Entity())
        run, token = entity.last
        if entity.owner not in (None, me) and self._holds(entity.owner):
            return Elsewhere(entity.owner)
        if run == me.incarnation and token >= claim.token:
            if entity.owner is None or token > claim.token:
                return Elsewhere(me)
        else:
            entity.epoch += 1
            entity.owner, entity.last = me, (me.incarnation, claim.token)
        state = self._decode(kind, claim.id, entity)
        epoch, state_epoch = Epoch(entity.epoch), Epoch(entity.state_epoch)
        return Owned(epoch, state_epoch, entity.state_version, state, entity.next_seq, entity.head)

    def _holds(self, owner: NodeAddress) -> bool:
        """Whether a claim must leave `owner` its entity: it is not known dead or gone."""
        run = self.database.nodes.get(owner)
        return run is None or run.state == "up"

    async def write(self, kind: str, changes: Sequence[Change]) -> dict[ActorId, WriteResult]:
        self._known(kind)
        encoded = [msgspec.msgpack.encode(change.state) for change in changes]
        return {change.id: self._write(change, data) for change, data in zip(changes, encoded, strict=True)}

    def _write(self, change: Change, data: bytes) -> WriteResult:
        entity = self.database.entities.get(change.id)
        if entity is None:
            return "fenced"
        if entity.epoch == change.epoch and entity.state_version < change.version:
            entity.state_epoch, entity.state_version, entity.state = change.epoch, change.version, data
            return "written"
        already = entity.state_epoch == change.epoch and entity.state_version >= change.version
        return "written" if already else "fenced"

    async def release(self, kind: str, held: Sequence[tuple[ActorId, Epoch]]) -> None:
        self._known(kind)
        for identity, epoch in held:
            entity = self.database.entities.get(identity)
            if entity is not None and entity.epoch == epoch:
                entity.owner = None

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]:
        self._known(kind)
        found: dict[ActorId, Stored] = {}
        for identity in ids:
            entity = self.database.entities.get(identity)
            if entity is not None and (entity.state_version > 0 or entity.next_seq > 1):
                state = self._decode(kind, identity, entity)
                found[identity] = Stored(Epoch(entity.state_epoch), entity.state_version, state)
        return found

    def _known(self, kind: str) -> None:
        if kind not in self._decoders:
            raise Internal(f"kind {kind} was not named to the store")

    def _decode(self, kind: str, identity: ActorId, entity: Entity) -> Any:
        if entity.state is None or entity.next_seq > 1:
            return None  # where there is a log, the log is the truth
        try:
            return self._decoders[kind](entity.state)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"{identity}: {error}") from None
