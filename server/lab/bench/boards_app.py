"""The game with one more request, for `leaderboard`: results come in without matches, so many at once as a studio's
whole evening."""

import asyncio
import random
import sqlite3
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from game.app import ROUTES
from game.app import App as Game
from game.boards.face import BoardsFace
from server.actors.actor import Actor, Caller, remote
from server.actors.app import Route
from server.wire.messages import Reply, Request

UPDATE: Final = (
    "UPDATE career_totals SET kills = kills + 1, matches = matches + 1 "
    "WHERE player_id = ? AND mode = 'slayer' AND season = ''"
)


class KillsCounted(Request, tag="bench.played", frozen=True):
    """Count a kill more for `count` of the players, in the database file `path`, and say so to the boards."""

    path: Annotated[str, Meta(max_length=4_096)]
    players: Annotated[int, Meta(ge=1, le=10_000_000)]
    count: Annotated[int, Meta(ge=1, le=10_000)]


class KillsDone(Reply, tag="bench.done", frozen=True):
    counted: int


class NoState(msgspec.Struct, frozen=True):
    """Nothing."""


class Feeder(Actor[NoState]):
    kind = "feeder"
    State = NoState

    @remote
    async def played(self, caller: Caller, message: KillsCounted) -> KillsDone:
        names = [name_of(number) for number in random.sample(range(message.players), message.count)]
        await asyncio.to_thread(_count, message.path, names)
        self.tell(BoardsFace, "slayer", BoardsFace.changed, names)
        return KillsDone(message.id, len(names))


def name_of(number: int) -> str:
    return f"spartan-{number:07}"


def _count(path: str, names: list[str]) -> None:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(UPDATE, [(name,) for name in names])
        connection.execute("COMMIT")
    finally:
        connection.close()


def _key(_caller: Caller, _message: Any) -> str:
    return "feeder"


_MORE: Final[Mapping[Any, Any]] = {KillsCounted: Route(Feeder, Feeder.played, _key)}
App = msgspec.structs.replace(
    Game,
    actors=(*Game.actors, Feeder),
    requests=(*Game.requests, KillsCounted),
    answers=(*Game.answers, KillsDone),
    routes={**ROUTES, **_MORE},
)
