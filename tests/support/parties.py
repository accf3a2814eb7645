"""What tests of parties share: the memory twin of their store query, and players who send their messages."""

from itertools import count
from typing import Any, Final

from game.app import App
from persistence.game.queries import PartyCode
from server.actors.actor import Caller
from server.actors.app import Route
from server.ids import actor_id
from server.storage.queries import MemoryQuery, States


def _of_code(states: States, given: PartyCode) -> list[dict[str, Any]]:
    return [{"party": key} for key, state in states("party") if given.code and state.code == given.code]


QUERIES: Final = {"party_of_code": MemoryQuery(PartyCode, _of_code, 1)}
_lineages = count()


class Someone:
    """A player with a session, who sends messages by the application's routes."""

    def __init__(self, system: Any, name: str) -> None:
        self.system, self.name, self.commands = system, name, 0
        self.caller = Caller("player", name, f"session of {name}")
        self.lineage = f"l{next(_lineages)}"

    async def connect(self) -> "Someone":
        await self.system.ask(actor_id("player", self.name), "connected", (self.caller,))
        return self

    async def disconnect(self) -> None:
        await self.system.ask(actor_id("player", self.name), "disconnected", (self.caller, "gone"))

    async def send(self, message: Any) -> Any:
        route = App.routes[type(message)]
        assert isinstance(route, Route)
        identity = actor_id(route.actor.kind, route.key(self.caller, message))
        return await self.system.ask(identity, route.method.__name__, (self.caller, message))

    def command(self, cls: Any, *fields: Any) -> Any:
        """A message of `cls`, a command with a number of its own."""
        self.commands += 1
        return cls(self.commands, self.lineage, self.commands, *fields)

    async def do(self, cls: Any, *fields: Any) -> Any:
        return await self.send(self.command(cls, *fields))
