"""The game with a million things more, for `hot-restart`: durable actors that lie in memory, most of them untouched."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from game.app import ROUTES
from game.app import App as Game
from server.actors.actor import Actor, ActorRef, Caller, remote
from server.actors.app import Route
from server.wire.messages import Reply, Request

AT_ONCE: Final = 1_000
Number = Annotated[int, Meta(ge=0, le=100_000_000)]


class ThingsMake(Request, tag="bench.make", frozen=True):
    """Bring things `first` to `first + count - 1` into memory."""

    first: Number
    count: Annotated[int, Meta(ge=1, le=100_000)]


class ThingsCount(Request, tag="bench.count", frozen=True):
    """Count each of these things once more; `by` 0 only asks."""

    things: Annotated[list[Number], Meta(max_length=10_000)]
    by: Annotated[int, Meta(ge=0, le=1)]


class Things(Reply, tag="bench.things", frozen=True):
    counts: list[int]


class ThingState(msgspec.Struct, frozen=True):
    """A count, and some words beside it."""

    count: int = 0
    owner: str = ""
    colour: str = ""
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Thing(Actor[ThingState]):
    kind = "thing"
    durability = "write_behind"
    State = ThingState

    @remote
    def make(self, owner: str) -> int:
        if not self.state.owner:
            self.state = msgspec.structs.replace(self.state, owner=owner, colour="crimson", place=(1.5, -2.25, 12.0))
        return self.state.count

    @remote
    def count(self, by: int) -> int:
        if by:
            self.state = msgspec.structs.replace(self.state, count=self.state.count + by)
        return self.state.count


class NoThings(msgspec.Struct, frozen=True):
    """Nothing."""


class Maker(Actor[NoThings]):
    """Makes and counts things for its client: each request is one turn of a maker of its own."""

    kind = "maker"
    State = NoThings

    @remote
    async def make(self, caller: Caller, message: ThingsMake) -> Things:
        made, end = 0, message.first + message.count
        for first in range(message.first, end, AT_ONCE):
            some = range(first, min(first + AT_ONCE, end))
            made += len(await asyncio.gather(*(self._thing(n).ask(Thing.make, f"player-{n % 5_000}") for n in some)))
        return Things(message.id, [made])

    @remote
    async def count(self, caller: Caller, message: ThingsCount) -> Things:
        counts = await asyncio.gather(*(self._thing(n).ask(Thing.count, message.by) for n in message.things))
        return Things(message.id, list(counts))

    def _thing(self, number: int) -> ActorRef[Thing]:
        return self.ref(Thing, str(number))


def _key(caller: Caller, _message: Any) -> str:
    return caller.subject


_MORE: Final[Mapping[Any, Any]] = {
    ThingsMake: Route(Maker, Maker.make, _key),
    ThingsCount: Route(Maker, Maker.count, _key),
}
App = msgspec.structs.replace(
    Game,
    actors=(*Game.actors, Thing, Maker),
    requests=(*Game.requests, ThingsMake, ThingsCount),
    answers=(*Game.answers, Things),
    routes={**ROUTES, **_MORE},
)
