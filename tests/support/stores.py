"""Two nodes over one database, for the contract tests of `Store`; what a store of states needs of an application."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from game.party import rules as party_rules
from game.player.rules import is_here
from game.player.state import PlayerState
from server.actors.actor import Actor, LoggedActor
from server.actors.app import App
from server.errors import Corrupt
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId, actor_id
from server.storage.ports import Change, Claim, ClaimResult, Owned, Store, Stored
from tests.support.databases import Wallet

LEASE_S = 30.0
A, B = NodeId("node-a"), NodeId("node-b")


class Pair:
    """Two nodes, each with a store of its own over one database."""

    def __init__(self, kind: str, a: Store, b: Store) -> None:
        self.kind, self.a, self.b = kind, a, b
        self.on_a = self.on_b = NodeAddress(A, Incarnation(0))
        self.tokens = 0

    async def register(self, journal: str = "") -> None:
        self.on_a = NodeAddress(A, await self.a.register_node(A, LEASE_S, journal))
        self.on_b = NodeAddress(B, await self.b.register_node(B, LEASE_S, journal))

    def id(self, key: str) -> ActorId:
        return actor_id(self.kind, key)

    def state(self, n: int) -> Any:
        return Wallet(n, "x") if self.kind == "wallet" else PlayerState(kills=n, display_name="x")

    def claims(self, *keys: str) -> list[Claim]:
        claims = []
        for key in sorted(keys):
            self.tokens += 1
            claims.append(Claim(self.id(key), self.tokens))
        return claims

    async def own_a(self, key: str = "one") -> Owned:
        return await owned(self.a, self.kind, self.claims(key)[0], self.on_a)

    async def own_b(self, key: str = "one") -> Owned:
        return await owned(self.b, self.kind, self.claims(key)[0], self.on_b)

    async def try_b(self, key: str = "one", journals: Collection[str] | None = None) -> ClaimResult:
        result = (await self.b.claim(self.kind, self.claims(key), self.on_b, journals))[self.id(key)]
        assert not isinstance(result, Corrupt), result
        return result

    async def write(self, store: Store, epoch: Epoch, version: int, n: int, key: str = "one") -> str:
        change = Change(self.id(key), epoch, version, self.state(n))
        return (await store.write(self.kind, [change]))[change.id]

    async def stored(self, key: str = "one") -> Stored | None:
        return (await self.b.read(self.kind, [self.id(key)])).get(self.id(key))


def _is_due(state: Any) -> bool:
    return party_rules.is_due(state)


HERE: dict[str, Callable[[Any], bool]] = {"player": is_here, "party": _is_due}
"""For each kind whose states say so: whether somebody is here."""


async def owned(store: Store, kind: str, claim: Claim, me: NodeAddress) -> Owned:
    result = (await store.claim(kind, [claim], me))[claim.id]
    assert isinstance(result, Owned), result
    return result


async def expired(store: Store, node: NodeAddress) -> bool:
    return any(row.lease_left_s <= 0 for row in await store.nodes() if row.incarnation == node.incarnation)


def still_live(app: App) -> dict[str, Callable[[Any], bool]]:
    """For each kind that lives on by itself, the test whether an entity with a given state still does: for a
    store that keeps states and not columns."""
    return {cls.kind: partial(_lives, cls) for cls in app.actors if cls.lives_on}


def _lives(cls: type[Actor[Any]], state: Any) -> bool:
    return not (issubclass(cls, LoggedActor) and cls.finished(state))
