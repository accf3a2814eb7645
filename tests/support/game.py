"""The game on one actor system, asked as the session layer asks: by the application's routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from game.app import App
from game.messages import Accepted, MatchList
from server.actors.actor import Caller
from server.actors.app import QueryRoute
from server.ids import actor_id
from tests.support.engine import TestSystem, cluster

HOST = Caller("host", "host", "h1")
MATCH_LIST = MatchList(1)
FAST: dict[str, Any] = {"store": {"group_commit_s": 0.001, "flush_interval_s": 0.02}}


@asynccontextmanager
async def running() -> AsyncIterator[TestSystem]:
    """One host with the game, storing as it goes."""
    async with cluster(app=App, **FAST) as world:
        system = world.systems["node-1"]
        system.supervisor.spawn(system.write_behind.run(), "write-behind")
        yield system


def player(name: str, session: str = "s1") -> Caller:
    return Caller("player", name, session)


_lineages = count()


class Client:
    """Sends messages to actors as the session layer does, by the app's routes."""

    def __init__(self, system: TestSystem, caller: Caller) -> None:
        self.system, self.caller, self.commands = system, caller, 0
        self.lineage = f"line-{next(_lineages)}"

    async def send(self, message: Any) -> Any:
        route = App.routes[type(message)]
        assert not isinstance(route, QueryRoute)
        identity = actor_id(route.actor.kind, route.key(self.caller, message))
        return await self.system.ask(identity, route.method.__name__, (self.caller, message))

    async def command(self, cls: Any, match: str, *rest: Any) -> Accepted:
        self.commands += 1
        answer = await self.send(cls(1, self.lineage, self.commands, match, *rest))
        assert isinstance(answer, Accepted)
        return answer


async def session(system: TestSystem, name: str, opened: bool = True) -> None:
    method, args = ("connected", ()) if opened else ("disconnected", ("closed",))
    await system.ask(actor_id("player", name), method, (player(name), *args))
