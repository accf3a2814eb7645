"""What tests of watching players need: an application with relations, engines that the test shows players by, and a
client that keeps the picture which it is sent."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec.structs import replace

from server.actors.actor import Actor, Caller, read_only, remote
from server.actors.pictures import Pictures, Relations
from server.actors.presence import PresenceKind
from server.sessions.time_limits import Limits, StreamLimits, TransferLimits
from server.wire.messages import PresenceUnwatch, PresenceWatch, SeenPlayer
from tests.support.gateways import MemoryClient, Nothing, SessionApp, World, gateways
from tests.support.presences import MemoryPresence

QUICK = {"latest_tick_ms": 20}
AT_ONCE = Limits(transfer=TransferLimits(spread_s=0.01), streams=StreamLimits(renew_s=0.5))


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


GONE = Pictures(packed("gone"), packed("gone since 7"), packed("gone since 7"))
HIDDEN, UNKNOWN = "gone", "?"


class Circle(Actor[Nothing]):
    """The relations of a player, as the test says."""

    kind = "circle"
    State = Nothing
    lists: dict[str, Relations] = {}
    asked: list[str] = []
    gate: asyncio.Event | None = None
    error: Exception | None = None

    __slots__ = ()

    @remote
    @read_only
    async def relations(self, caller: Caller) -> Relations:
        Circle.asked.append(self.key)
        if Circle.gate is not None:
            await Circle.gate.wait()
        if Circle.error is not None:
            raise Circle.error
        return Circle.lists.get(self.key, Relations(0, [], []))


WatchApp = replace(
    SessionApp,
    actors=(*SessionApp.actors, Circle),
    presence=PresenceKind(lambda row: GONE, packed(UNKNOWN), packed(HIDDEN), relations=Circle),
)
StrangersApp = replace(WatchApp, presence=PresenceKind(lambda row: GONE, packed(UNKNOWN), packed(HIDDEN)))


def looks(everybody: Any, friends: Any = None, own: Any = None) -> Pictures:
    """Pictures of a player; those that are not given look like the one before."""
    friends = everybody if friends is None else friends
    return Pictures(packed(everybody), packed(friends), packed(friends if own is None else own))


class WatchWorld:
    """Gateways with an engine each; players are shown on all of them."""

    def __init__(self, world: World, engines: Mapping[str, MemoryPresence]) -> None:
        self.world, self.engines = world, engines

    def show(self, player: str, pictures: Pictures | None, relations: int = 0) -> None:
        for engine in self.engines.values():
            engine.show(player, pictures, relations)

    def lose(self, *players: str) -> None:
        for engine in self.engines.values():
            engine.lose(*players)

    def found(self, *players: str) -> None:
        for engine in self.engines.values():
            engine.found(*players)

    def relate(self, player: str, number: int, friends: Iterable[str] = (), hidden: Iterable[str] = ()) -> None:
        """Give a player other relations, without a word of it to its sessions."""
        Circle.lists[player] = Relations(number, list(friends), list(hidden))

    def watches(self, node: str) -> Any:
        return self.world.nodes[node].gateway.watches


@asynccontextmanager
async def watched(
    names: Sequence[str] = ("node-1",), *, app: Any = WatchApp, sockets: bool = False, **tree: Any
) -> AsyncIterator[WatchWorld]:
    """A world in which players are watched."""
    engines = {name: MemoryPresence(GONE) for name in names}
    Circle.lists, Circle.asked, Circle.gate, Circle.error = {}, [], None, None
    tree["gateway"] = {**QUICK, **tree.get("gateway", {})}
    async with gateways(
        names, app=app, limits=AT_ONCE, engine_of=engines.__getitem__, sockets=sockets, **tree
    ) as world:
        yield WatchWorld(world, engines)


class Watcher:
    """A client's picture of players, by what it is sent."""

    def __init__(self, client: MemoryClient) -> None:
        self.client = client
        self.picture: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.cursor = ""
        self.frames: list[list[Any]] = []
        self.ever: dict[str, set[str]] = {}
        self.friends: list[str] = []

    async def watch(self, *players: str, friends: bool = False, seen: bool = False) -> list[Any]:
        """The answer; what came before it is taken in."""
        versions = [SeenPlayer(player, version) for player, version in self.versions.items()] if seen else []
        answer = await self.client.ask(PresenceWatch, list(players), friends, versions)
        self.take_seen()
        if answer[0] == "presence.watched":
            self.cursor = answer[2]
        return answer

    async def unwatch(self, *players: str, friends: bool = False) -> None:
        assert (await self.client.ask(PresenceUnwatch, list(players), friends))[0] == "done"
        self.take_seen()

    def take_seen(self) -> None:
        """Take in the frames that came while the client waited for something else."""
        rest, self.client.seen = self.client.seen, []
        for frame in rest:
            if frame[0] == "presence.changes":
                self.take(frame)
            elif frame[0] == "presence.friends":
                self.friends = frame[1]
            else:
                self.client.seen.append(frame)

    def take(self, frame: list[Any]) -> None:
        _, cursor, items = frame
        self.frames.append(frame)
        self.cursor = cursor or self.cursor
        for player, version, value in items:
            if version == 0:
                self.picture.pop(player, None)
                self.versions.pop(player, None)
            else:
                self.picture[player], self.versions[player] = value, version
                self.ever.setdefault(player, set()).add(str(value))

    async def shows(self, wanted: Mapping[str, Any]) -> None:
        """Take frames until the picture is `wanted`."""
        async with asyncio.timeout(30):
            while self.picture != wanted:
                self.take(await self.client.until(lambda message: message[0] == "presence.changes"))

    async def quiet(self, for_s: float = 0.1) -> None:
        """No frame comes."""
        self.take_seen()
        before = len(self.frames)
        try:
            async with asyncio.timeout(for_s):
                self.take(await self.client.until(lambda message: message[0] == "presence.changes"))
        except TimeoutError:
            pass
        assert self.frames[before:] == []


async def watcher(world: WatchWorld, node: str, subject: str, role: str = "player", format: str = "msgpack") -> Watcher:
    """A client with a session, which cannot follow redirects."""
    client = world.world.client(node, subject, role, format)
    answer = await client.hello(redirects=False)
    assert answer[0] == "welcome", answer
    return Watcher(client)


async def back(world: WatchWorld, old: Watcher, node: str, cursor: str | None = None) -> tuple[Watcher, bool]:
    """The watcher on a new connection that resumes, with its picture, and whether its watching goes on."""
    assert old.client.welcome is not None
    client = world.world.client(node, old.client.subject, old.client.role, old.client.format)
    resume = old.client.welcome.resume
    answer = await client.hello(resume=resume, redirects=False, presence=old.cursor if cursor is None else cursor)
    assert answer[0] == "welcome" and answer[7] is True, answer
    again = Watcher(client)
    again.picture, again.versions, again.cursor = dict(old.picture), dict(old.versions), old.cursor
    again.ever = old.ever
    return again, bool(answer[13])
