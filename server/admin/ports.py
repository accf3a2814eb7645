"""The port of the admin layer to the node that it shows. `server.catalog.system.ActorSystem` has all of
it; tests use a small object of their own."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from server.actors.app import App
from server.cluster.view import View
from server.ids import ActorId, NodeAddress

NodeReadModel = Callable[[Mapping[str, Any]], list[Any]]
"""`read_model(params) -> rows`, run on one node, synchronously; rows are plain data."""


class Draining(msgspec.Struct, frozen=True):
    """How a node is drained. `begin` starts it and is idempotent; it raises `Unavailable` where no
    other node could take anything. `progress` gives `state` (of the member), `activations_left`,
    `sessions_left` and `moved`."""

    begin: Callable[[], Awaitable[None]]
    progress: Callable[[], Mapping[str, Any]]


class Upgrading(msgspec.Struct, frozen=True):
    """How the process of a node is succeeded by another. `begin` starts it and is idempotent while it goes on; it
    raises `CalledOff` where it cannot even begin. `progress` gives the fields of `answers.Upgrade` but for the node's
    name and run."""

    begin: Callable[[], None]
    progress: Callable[[], Mapping[str, Any]]


class Answers(Protocol):
    """The result of a fan-out query: the rows of every node that answered in time, and the
    names of those that did not."""

    @property
    def rows(self) -> list[Any]: ...

    @property
    def missing(self) -> list[str]: ...


class AdminSystem(Protocol):
    """The node, as far as its admin layer is concerned."""

    @property
    def me(self) -> NodeAddress: ...

    @property
    def app(self) -> App: ...

    @property
    def view(self) -> View: ...

    async def query(self, name: str, params: dict[str, Any], timeout_s: float | None = None) -> Answers:
        """Run read model `name` on every member, this node included."""
        ...

    async def ask(self, identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        """The answer of an actor's method, wherever it lives. Raises what its turn raises."""
        ...

    async def pin_log(self, identity: ActorId, pinned: bool) -> bool:
        """Have the log of an actor kept for good, or no more. False where there is none."""
        ...

    def add_query(self, name: str, fn: NodeReadModel) -> None:
        """Install a node-level read model that `query` can reach."""
        ...

    def counts(self) -> Mapping[str, int]:
        """How many activations of each kind live here; a kind without any may be left out."""
        ...
