"""The drivers of a node: everything in it that touches the outside, made by `drivers.py` or by a simulation, and the
ports of those two that no room below has: the listener for clients and the side for operators."""

import random
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from server.cluster.ports import Membership
from server.cluster.terms import Terms
from server.columns.store import ColumnStore
from server.eventlog.ports import LogStore
from server.liveness.renewing import Renewing
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.connection import ClientSockets
from server.sessions.gateway import Gateway
from server.sessions.tokens import TokenRules
from server.storage.journal.ports import Journal
from server.storage.ports import Store
from server.storage.queries import NoStoreQueries, StoreQueries
from server.transport.ports import Transport


class Listener(ClientSockets, Protocol):
    """The port of the listener for clients: the picows driver, or an in-memory twin."""

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets that it listens on, once it has been started."""
        ...

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on these, when it is started, instead of binding any: another process had them before."""
        ...

    async def start(self) -> str:
        """Listen; returns the url that clients are told. Raises `Unavailable` if the port is
        taken."""
        ...

    def reload(self, changed_only: bool = False) -> bool:
        """Read the certificates again; True if new ones are in use. Raises `BadSetting`."""
        ...

    @property
    def complaint(self) -> str:
        """The complaint of clients about the certificate, as far as it can be told here; empty while there is none."""
        ...

    async def stop(self) -> None: ...


class Admin(Protocol):
    """The HTTP side for operators; absent in simulations."""

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets that it listens on, once it has been bound."""
        ...

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on these, which listen already, instead of binding; before `bind`."""
        ...

    def bind(self) -> str: ...

    async def start(self) -> None: ...

    def view_changed(self) -> None: ...

    async def stop(self) -> None: ...


class Drivers(msgspec.Struct, frozen=True):
    """Everything that touches the outside. `listener` and `admin` are made for a gateway and a
    node; `admin` is None where nobody operates the node, `journal` where none is kept.
    `shortage` says that file descriptors are used up.
    `renewing`: how the lease is renewed; on the event loop if it is None. `columns`: None where none are kept.
    `asks_store`: ask the store now and then who is dead in it, and who holds a lease there, and compare
    that with gossip."""

    clock: Clock
    rng: random.Random
    store: Store
    logs: LogStore
    transport: Transport
    membership: Membership
    supervisor: Supervisor
    metrics: Metrics
    listener: Callable[[Gateway], Listener]
    admin: Callable[[Any], Admin] | None = None
    journal: Journal | None = None
    asks_store: bool = False
    store_queries: StoreQueries = NoStoreQueries()
    terms: Callable[[TokenRules], Terms] = lambda _rules: Terms()
    """Terms of this node (`server/cluster/terms.py`), but for its database, which the store knows."""
    renewing: Renewing | None = None
    shortage: Callable[[], str] = lambda: ""
    columns: ColumnStore | None = None
    query_process: Process | None = None
    """The query process, where it was started before the node was built."""
