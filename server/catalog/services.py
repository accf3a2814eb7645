"""Services that every part of a node's catalog uses: the drivers, and the view that the node has now.

A part gets these two and its *named* collaborators, as narrow as it uses them (`ports.py`), so that it can be
built alone: `tests/unit/test_catalog_parts.py` does.
"""

import random
from typing import Protocol

import msgspec

from server.actors.app import App
from server.cluster.view import View
from server.eventlog.ports import LogStore
from server.ids import ActorId, NodeAddress
from server.liveness.lease import NodeLease
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import Settings
from server.storage.claimer import Claimer
from server.storage.durability import Durability
from server.storage.group_commit import GroupCommit
from server.storage.ports import Store
from server.storage.queries import StoreQueries
from server.storage.takeover import Takeover
from server.storage.write_behind import WriteBehind
from server.transport.ports import Transport


class Services(msgspec.Struct, frozen=True):
    """The application, the settings and the drivers of one node."""

    app: App
    settings: Settings
    clock: Clock
    rng: random.Random
    metrics: Metrics
    supervisor: Supervisor
    transport: Transport
    store: Store
    logs: LogStore
    store_queries: StoreQueries


class StorageParts(Protocol):
    """The storage pipeline of the node, as far as actors use it."""

    @property
    def lease(self) -> NodeLease: ...

    @property
    def claimer(self) -> Claimer: ...

    @property
    def takeover(self) -> Takeover: ...

    @property
    def durability(self) -> Durability: ...

    @property
    def write_behind(self) -> WriteBehind: ...

    @property
    def group_commit(self) -> GroupCommit: ...


class CurrentView:
    """The view that this node has now, and its own address in it."""

    __slots__ = ("me", "resting", "view")

    def __init__(self, me: NodeAddress, view: View) -> None:
        self.me, self.view = me, view
        self.resting = False
        """Begin nothing new of what goes on by itself: this node is about to go on in another process, or has just
        begun there."""

    def owner(self, identity: ActorId) -> NodeAddress | None:
        """The owner of the actor's slot; None while no node is up."""
        return self.view.table.owner(identity)

    def is_mine(self, identity: ActorId) -> bool:
        """Tell whether the actor's slot is this node's."""
        return self.view.table.owner(identity) == self.me

    @property
    def is_leaving(self) -> bool:
        """True while this node is not `up` (yet, or any more) in its own view."""
        member = self.view.addresses.get(self.me)
        return member is None or member.state != "up"
